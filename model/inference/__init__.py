"""Inference: batches, devices, compilation, CUDA graphs."""
