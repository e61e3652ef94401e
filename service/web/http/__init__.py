"""HTTP itself: connections, keys, negotiation, problems."""
