"""What a product asks, as it is written on the command line: natural numbers and dates, not the units of a column."""

from __future__ import annotations

from pathlib import Path

import typer

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import decode
from enclave_runner.contract.dataset import Column
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.job import Predicate, VerificationJob
from enclave_runner.contract.protocols.canonical import claim_number, claim_text
from enclave_runner.contract.scoring import ScoreCheck
from sandbox.cli.session import built
from sandbox.store.database import reading
from sandbox.store.datasets import DATASETS
from sandbox.workflow.office import Office


def one_by_one(attribute: str, predicate: Predicate) -> VerificationJob:
    """A question that is asked one ticket at a time."""
    dataset_id, _, column = attribute.partition(".")
    return built(lambda: VerificationJob(dataset_id=dataset_id, attribute=column, predicate=predicate))


def parse_modes(text: str) -> tuple[VerificationMode, ...]:
    """`P0,P1` as modes.

    Raises:
        typer.BadParameter: for anything else.
    """
    return built(lambda: tuple(VerificationMode(part.strip().upper()) for part in text.split(",")))


def parse_check(
    office: Office,
    attribute: str,
    kind: CheckKind,
    modes: str,
    edges: str,
    members: str,
    says_unknown: bool,
    max_age_days: int | None,
) -> Check:
    """A check over a catalogued column; edges and members are read as the column's values are written.

    Raises:
        typer.BadParameter: with the contract's own words, where there is no such check.
        Refused: `record.unknown`, `verification.claim-form`.
    """
    dataset_id, _, name = attribute.partition(".")
    with reading(office.engine) as connection:
        column = DATASETS.get(connection, dataset_id).spec.column(name)
    if column is None:
        raise typer.BadParameter(f"{dataset_id} has no such column")
    asked = parse_modes(modes)
    return built(
        lambda: Check(
            dataset_id=dataset_id,
            attribute=name,
            kind=kind,
            modes=asked,
            members=tuple(claim_text(part, column.type, column.scale) for part in _parts(members)),
            edges=_edges(column, edges),
            says_unknown=says_unknown,
            max_age_days=max_age_days,
        )
    )


def read_score(path: Path) -> ScoreCheck:
    """A scoring product from its JSON file.

    Raises:
        Failed: `file.unreadable`.
        Refused: `wire.malformed`.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise Failed("file.unreadable") from None
    return decode(content, ScoreCheck)


def _edges(column: Column, text: str) -> tuple[int, ...]:
    return tuple(claim_number(part, column.type, column.scale) for part in _parts(text))


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
