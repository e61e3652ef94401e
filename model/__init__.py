"""OverLoCK: configuration, network, weights and preprocessing; knows nothing of the web."""
