"""The catalogue of the pilot city: one TOML file per table, in this folder."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import msgspec

from sandbox.domain.dataset import Dataset


def city_datasets() -> tuple[Dataset, ...]:
    """Every dataset of the pilot city, in the order of their ids; each describes the file of that name."""
    sources = sorted(
        (entry for entry in files(__name__).iterdir() if entry.name.endswith(".toml")), key=lambda e: e.name
    )
    return tuple(msgspec.convert(tomllib.loads(entry.read_text(encoding="utf-8")), Dataset) for entry in sources)
