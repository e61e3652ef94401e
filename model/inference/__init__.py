"""A network at work: batches, devices, compiling, recording."""
