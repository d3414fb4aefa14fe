"""Frozen values, valid by construction: no clock, no I/O. Standard library, python-stdnum, the contract."""
