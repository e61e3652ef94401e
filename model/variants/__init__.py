"""The shapes that a backbone can have."""
