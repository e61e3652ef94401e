"""The HTTP worker: limits, decoding, geometry, rendering; never torch."""
