"""The HTTP API: schemas, limits and errors."""
