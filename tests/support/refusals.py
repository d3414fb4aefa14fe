"""Expecting a refusal by its rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from enclave_runner.contract.errors import Failed, Refused


@contextmanager
def refused_by(rule: str, **facts: str) -> Iterator[None]:
    """The block must be refused by exactly that rule, with at least those facts."""
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.rule == rule
    assert facts.items() <= caught.value.facts.items()


@contextmanager
def failed_at(code: str) -> Iterator[None]:
    """The block must fail with exactly that code."""
    with pytest.raises(Failed) as caught:
        yield
    assert caught.value.code == code
