"""The network's own operations: dispatch, reference and fast paths."""
