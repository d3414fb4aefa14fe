"""Escape attempts from inside the jail: each is tried for real and must be blocked by the layer that it names."""
