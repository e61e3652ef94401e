"""Label maps, overlays and drawn detections as PNG files."""
