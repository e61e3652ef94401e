"""C kernels for CPUs, compiled where they run."""
