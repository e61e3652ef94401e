"""Drawn scenes, the demo's data set."""
