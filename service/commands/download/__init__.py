"""``overlock download``."""
