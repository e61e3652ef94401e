"""Triton kernels for GPUs, and how they are chosen."""
