"""Admission, order and batches: pure, with the clock handed in."""
