"""How many replicas a load needs: the real scheduler on a virtual clock (``overlock plan``)."""
