"""Measurement of networks on the paper's data sets, with the paper's metrics."""
