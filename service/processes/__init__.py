"""The supervisor and what its child processes share."""
