"""What connects HTTP workers and engines."""
