"""Differential privacy: conversions and noise by OpenDP, on exact integers only."""
