"""The commands of ``overlock``."""
