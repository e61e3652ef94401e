"""The link between HTTP workers and engines: messages, and both ends."""
