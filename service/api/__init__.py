"""What callers send and get: schemas and errors."""
