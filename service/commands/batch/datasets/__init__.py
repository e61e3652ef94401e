"""Data sets of a run's detections and segmentations, as other programs read them."""
