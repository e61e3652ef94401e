"""``overlock predict``: in its own process, or by a service."""
