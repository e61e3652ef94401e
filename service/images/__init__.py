"""Preparation of images: from a request body's bytes to a network's input."""
