"""From a body's bytes to a network's input."""
