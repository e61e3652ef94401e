"""Rendering of an engine's results into documents and pictures, one file per task."""
