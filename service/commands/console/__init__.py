"""What all commands share: how they end, and how they write for people."""
