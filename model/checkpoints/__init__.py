"""Checkpoint files: reading any of them safely."""
