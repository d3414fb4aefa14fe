"""What a workbench lists: datasets, grants and budgets, as values that draw themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.client import pages
from sandbox.client.records import Entry, Granted, Odometers, left_of

RHO = 10**12


@dataclass(frozen=True)
class Dataset:
    """A catalogue entry. `entry.spec` has types, bounds and public values of every column."""

    entry: Entry

    @property
    def dataset_id(self) -> str:
        """Its name in SQL."""
        return self.entry.spec.dataset_id

    def __repr__(self) -> str:
        return f"{self.dataset_id}: {self.entry.title}\n{pages.lines(_COLUMN_HEAD, self._rows())}"

    def _repr_html_(self) -> str:
        rows = [[pages.text(cell) for cell in row] for row in self._rows()]
        return pages.page(pages.heading(f"{self.dataset_id} · {self.entry.title}"), pages.table(_COLUMN_HEAD, rows))

    def _rows(self) -> list[list[str]]:
        return [
            [column.name, column.title, column.type.value, _values(column.bounds, column.domain), str(column.grade)]
            for column in self.entry.spec.columns
        ]


_COLUMN_HEAD = ("列 / column", "名称 / title", "类型 / type", "取值 / values", "级别 / grade")


def _values(bounds: tuple[int, int] | None, domain: tuple[str, ...] | None) -> str:
    if domain is not None:
        shown = ", ".join(domain[:6])
        return shown + (f", … ({len(domain)})" if len(domain) > 6 else "")
    return "" if bounds is None else f"{bounds[0]} … {bounds[1]}"


@dataclass(frozen=True)
class Catalogue:
    """All datasets that may be seen; `catalogue["id"]` is one of them."""

    datasets: tuple[Dataset, ...]

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self.datasets)

    def __len__(self) -> int:
        return len(self.datasets)

    def __getitem__(self, dataset_id: str) -> Dataset:
        return next(one for one in self.datasets if one.dataset_id == dataset_id)

    def __repr__(self) -> str:
        return pages.lines(_DATASET_HEAD, self._rows())

    def _repr_html_(self) -> str:
        rows = [[pages.text(cell) for cell in row] for row in self._rows()]
        return pages.page(pages.table(_DATASET_HEAD, rows))

    def _rows(self) -> list[list[str]]:
        return [
            [
                one.dataset_id,
                one.entry.title,
                one.entry.department_id,
                one.entry.spec.entity_set,
                str(len(one.entry.spec.columns)),
            ]
            for one in self.datasets
        ]


_DATASET_HEAD = ("数据集 / dataset", "名称 / title", "部门 / department", "隐私单位 / privacy unit", "列数 / columns")


@dataclass(frozen=True)
class Grants:
    """The grants of the caller's party, with what is left of their privacy loss."""

    granted: tuple[Granted, ...]
    odometers: Odometers

    def __iter__(self) -> Iterator[Granted]:
        return iter(self.granted)

    def __len__(self) -> int:
        return len(self.granted)

    def __repr__(self) -> str:
        return pages.lines((*_GRANT_HEAD, "剩余 / left"), [[*row, left] for row, left in self._rows()])

    def _repr_html_(self) -> str:
        rows = [[*map(pages.text, row), pages.text(left)] for row, left in self._rows()]
        return pages.page(pages.table((*_GRANT_HEAD, "剩余 / left"), rows))

    def _rows(self) -> list[tuple[list[str], str]]:
        used = {reading.grant_id: reading.losses for reading in self.odometers.grants}
        return [
            (
                [
                    one.grant.grant_id,
                    one.status,
                    ", ".join(mode.value for mode in one.grant.modes),
                    ", ".join(scope.dataset_id for scope in one.grant.scopes),
                    one.grant.purpose.value,
                    one.grant.deadline.date().isoformat(),
                ],
                ", ".join(
                    f"{budget.entity_set} ρ={left_of(budget, used.get(one.grant.grant_id, ())) / RHO:g}"
                    for budget in one.grant.budgets
                ),
            )
            for one in self.granted
        ]


_GRANT_HEAD = (
    "授权 / grant",
    "状态 / status",
    "方式 / modes",
    "数据 / datasets",
    "用途 / purpose",
    "期限 / until",
)


@dataclass(frozen=True)
class Budgets:
    """The odometer of every entity set, across all operators."""

    odometers: Odometers

    def __repr__(self) -> str:
        return pages.lines(_BUDGET_HEAD, [[name, f"{part:.1%}", left] for name, part, left in self._rows()])

    def _repr_html_(self) -> str:
        rows = [[pages.text(name), pages.bar(part), pages.text(left)] for name, part, left in self._rows()]
        return pages.page(pages.table(_BUDGET_HEAD, rows, numbers=frozenset({2})))

    def _rows(self) -> list[tuple[str, float, str]]:
        return [
            (
                reading.entity_set,
                (reading.spent + reading.reserved) / reading.lifetime if reading.lifetime else 1.0,
                f"ρ={max(reading.lifetime - reading.spent - reading.reserved, 0) / RHO:g}",
            )
            for reading in self.odometers.readings
        ]


_BUDGET_HEAD = ("实体集 / entity set", "已用 / spent", "剩余 / left")
