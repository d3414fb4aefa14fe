"""Verification and encrypted scoring, each beside the least that it could cost."""
