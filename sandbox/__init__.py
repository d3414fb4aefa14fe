"""The bureau's control plane: never holds a raw row, a data key or a client's secret key."""
