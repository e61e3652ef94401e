"""Training of the demo's weights."""
