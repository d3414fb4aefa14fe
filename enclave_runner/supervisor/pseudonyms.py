"""Keyed names of subjects: equal for equal subjects of one entity set, useless without the enclave's secret."""

from __future__ import annotations

import hmac

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.protocols.canonical import subject_text


def pseudonym(key: bytes, entity_set: str, subject: str) -> bytes:
    """HMAC-SHA-256 over entity set and subject in its one spelling."""
    return hmac.digest(key, f"{entity_set}\n{subject}".encode(), "sha256")


def pseudonym_of(key: bytes, identifier: str, spec: DatasetSpec) -> bytes:
    """The pseudonym of an identifier as somebody typed it."""
    return pseudonym(key, spec.entity_set, subject_text(identifier, spec.key_kind))
