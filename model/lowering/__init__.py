"""Rewrites of a trained network for inference: folded, then lowered for a CPU or a GPU."""
