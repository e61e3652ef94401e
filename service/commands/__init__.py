"""The commands of ``overlock``, one file each: its options, and what it does."""
