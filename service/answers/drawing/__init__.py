"""Answers to look at: label maps, overlays and drawn detections as PNG files."""
