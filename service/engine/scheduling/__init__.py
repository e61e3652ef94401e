"""Admission, order and batch sizes. Pure: no torch, no sockets, and the clock is an argument."""
