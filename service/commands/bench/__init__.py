"""``overlock bench``: a load generator and its measurements."""
