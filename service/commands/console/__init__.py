"""Exit codes, options and output that commands share."""
