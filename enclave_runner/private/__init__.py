"""Verification that hides the question: tables built from an extract, the PIR kernel, and the serving worker."""
