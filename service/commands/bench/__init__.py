"""A load generator: loads a service and says what came of it (``overlock bench``)."""
