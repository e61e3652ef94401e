"""The Open Inference Protocol, version 2, over REST; its core knows no transport."""
