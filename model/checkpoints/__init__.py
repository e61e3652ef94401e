"""Checkpoint files, read safely in every supported form."""
