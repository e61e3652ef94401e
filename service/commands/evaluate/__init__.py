"""``overlock evaluate``."""
