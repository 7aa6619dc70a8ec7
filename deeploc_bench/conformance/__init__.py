"""The conformance suite: what every model, loss and generator dataset must hold, as named checks, in seconds."""
