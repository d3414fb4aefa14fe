"""What the enclave can say of itself: software measurement, signed by its key; no proof against the host's root."""
