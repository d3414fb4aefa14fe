"""Scoring of encrypted features: a public circuit, and points that are only added to it."""
