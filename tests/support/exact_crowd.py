"""A crowd of some hundred people with rows in ten groups, in an enclave without jails."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from tests.support.enclave_home import changed, column
from tests.support.exact_enclave import ExactEnclave, Row, Table, exact_enclave

GROUPS = tuple("abcdefghij")
HIDDEN = frozenset({"who"})
EVENTS = DatasetSpec(
    dataset_id="events",
    columns=(
        column("who", ColumnType.TEXT, grade=3),
        column("grp", ColumnType.TEXT, domain=GROUPS),
        column("x", ColumnType.INTEGER, bounds=(0, 10)),
        column("y", ColumnType.INTEGER, bounds=(-10, 0)),
        column("shop", ColumnType.TEXT),
    ),
    entity_set="resident",
    entity_column="who",
    key_kind=KeyKind.OPAQUE,
    population_cap=10_000,
    rows_per_entity=8,
)


@contextmanager
def holding(rows: Sequence[Row], **fields: object) -> Iterator[ExactEnclave]:
    """These rows, under the spec with some fields replaced."""
    with exact_enclave(Table(changed(EVENTS, **fields), tuple(rows), HIDDEN)) as enclave:
        yield enclave


def crowd(people: int = 300) -> list[Row]:
    """One to five rows a person, the same in every run."""
    chance = random.Random(3)
    return [
        (f"p{who}", chance.choice(GROUPS), chance.randrange(11), -chance.randrange(11), f"s{chance.randrange(3)}")
        for who in range(people)
        for _ in range(1 + who % 5)
    ]
