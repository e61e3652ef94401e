"""From an engine's answer to what a caller gets: one file a task, whoever the caller is."""
