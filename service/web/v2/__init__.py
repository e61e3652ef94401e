"""The Open Inference Protocol over HTTP, below ``/v2``."""
