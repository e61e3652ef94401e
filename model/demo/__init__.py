"""Drawn scenes with ground truth, and the small network trained on them."""
