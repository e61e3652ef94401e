"""Weights of one's own in a hub, a bucket or on a web server: fetched once, pinned and cached."""
