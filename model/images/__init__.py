"""Images on their way into and out of a network, without torch."""
