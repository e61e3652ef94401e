"""``overlock predict``: in this machine's own process, or by a service."""
