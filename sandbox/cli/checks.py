"""What a product asks, as it is written on the command line: natural numbers and dates, not the units of a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

NOTHING_TO_ASK = "须给出 --attribute 或 --score 之一 / give --attribute, or --score"
DEFAULT_MODES = "P0"


@dataclass(frozen=True)
class Wanted:
    """The options that say what a product asks, as they were given: None (False) for one that was not."""

    attribute: str | None
    predicate: Predicate | None
    check: CheckKind | None
    modes: str | None
    edges: str | None
    members: str | None
    unknown: bool
    max_age_days: int | None
    score: Path | None

    def require_fit(self) -> None:
        """Pass for options that go together: none may be dropped, since what is published would be something else.

        Raises:
            typer.BadParameter: naming those that do not fit.
        """
        if bool(self.attribute) == (self.score is not None):
            raise typer.BadParameter(NOTHING_TO_ASK)
        of_check = {
            "--modes": self.modes,
            "--edges": self.edges,
            "--members": self.members,
            "--unknown": self.unknown or None,
            "--max-age-days": self.max_age_days,
        }
        if self.score is not None:
            _refuse_given(
                {"--predicate": self.predicate, "--check": self.check, **of_check},
                "不能与 --score 同用 / not with --score",
            )
        elif self.check is None:
            _refuse_given(of_check, "只能与 --check 同用 / only with --check")
        else:
            _refuse_given({"--predicate": self.predicate}, "不能与 --check 同用 / not with --check")


def _refuse_given(options: Mapping[str, object], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise typer.BadParameter(f"{', '.join(given)}: {why}")


def parse_wanted(office: Office, wanted: Wanted) -> Check | ScoreCheck | VerificationJob:
    """What a product asks.

    Raises:
        typer.BadParameter: with the contract's own words, where there is no such check.
        Failed, Refused: as `read_score` and `_parse_check`.
    """
    if wanted.score is not None:
        return read_score(wanted.score)
    dataset_id, _, column = (wanted.attribute or "").partition(".")
    if wanted.check is not None:
        return _parse_check(office, dataset_id, column, wanted.check, wanted)
    predicate = Predicate.EQUALS if wanted.predicate is None else wanted.predicate
    return built(lambda: VerificationJob(dataset_id=dataset_id, attribute=column, predicate=predicate))


def parse_modes(text: str) -> tuple[VerificationMode, ...]:
    """`P0,P1` as modes.

    Raises:
        typer.BadParameter: for anything else.
    """
    return built(lambda: tuple(VerificationMode(part.strip().upper()) for part in text.split(",")))


def _parse_check(office: Office, dataset_id: str, name: str, kind: CheckKind, wanted: Wanted) -> Check:
    """A check over a catalogued column; edges and members are read as the column's values are written.

    Raises:
        typer.BadParameter: with the contract's own words, where there is no such check.
        Refused: `record.unknown`, `verification.claim-form`.
    """
    with reading(office.engine) as connection:
        column = DATASETS.get(connection, dataset_id).spec.column(name)
    if column is None:
        raise typer.BadParameter(f"{dataset_id} has no such column")
    modes = parse_modes(DEFAULT_MODES if wanted.modes is None else wanted.modes)
    return built(
        lambda: Check(
            dataset_id=dataset_id,
            attribute=name,
            kind=kind,
            modes=modes,
            members=tuple(claim_text(part, column.type, column.scale) for part in _parts(wanted.members)),
            edges=_edges(column, wanted.edges),
            says_unknown=wanted.unknown,
            max_age_days=wanted.max_age_days,
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


def _edges(column: Column, text: str | None) -> tuple[int, ...]:
    return tuple(claim_number(part, column.type, column.scale) for part in _parts(text))


def _parts(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
