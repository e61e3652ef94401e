"""The forms in which a trained network is served: folded, for a CPU, for a GPU."""
