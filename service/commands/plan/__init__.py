"""``overlock plan``: simulation of replicas, with the real scheduler on a virtual clock."""
