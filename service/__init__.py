"""The HTTP inference service: supervisor, HTTP workers, engines and the link between them."""
