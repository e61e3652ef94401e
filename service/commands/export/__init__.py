"""``overlock export``: a network in a file for other runtimes."""
