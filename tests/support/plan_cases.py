"""Random statements over random hostile databases, made from one seed each and shrunk when they fail."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from enclave_runner.contract.dataset import ColumnType, DatasetSpec
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Scope
from enclave_runner.egress.shares import learned_norms
from enclave_runner.plan.bind import bind_select
from enclave_runner.plan.bound import BoundSelect, NormKind
from enclave_runner.plan.nodes import SelectPlan
from enclave_runner.plan.parse import parse_select
from enclave_runner.plan.tables import Granted
from enclave_runner.supervisor.plan_query import _check_room
from tests.support.plan_catalogue import KINDS, city
from tests.support.plan_expressions import Row, Value
from tests.support.plan_interpreter import Clips

C = ColumnType
FILLED: dict[ColumnType, Value] = {C.TEXT: "b", C.INTEGER: 3, C.DECIMAL: 4, C.BOOLEAN: False, C.DATE: date(2020, 1, 5)}
DAYS = (date(2020, 2, 29), date(1999, 12, 31), date(2020, 3, 1), date(1970, 1, 1), date(2024, 12, 30))
CITY = city()
FROM = (
    ("events",),
    ("people",),
    ("events", "JOIN people USING (who)"),
    ("people", "JOIN events USING (who)"),
    ("events", "JOIN areas ON events.area = areas.code"),
    ("people", "JOIN areas ON people.home = areas.code"),
    ("events", "JOIN visits USING (who)"),
    ("people", "JOIN events ON people.who = events.who", "JOIN areas ON events.area = areas.code"),
    ("events", "JOIN visits ON events.who = visits.who", "JOIN people ON people.who = events.who"),
)
NUMBERS = {
    "events": ("amount", "money", "fee", "level"),
    "people": ("age", "income"),
    "visits": ("cost",),
    "areas": ("rank",),
}
TRUTHS = {"events": ("flag",), "people": ("active",), "visits": (), "areas": ()}
DATES = {"events": ("day",), "people": (), "visits": (), "areas": ()}
TEXTS = {"events": ("kind",), "people": ("sex",), "visits": ("place",), "areas": ("city",)}
OPEN = {"events": ("note",), "people": ("nick",), "visits": (), "areas": ("label",)}


@dataclass(frozen=True)
class Case:
    """One statement over one database: small enough to be read when it fails."""

    aggregates: tuple[str, ...]
    rows: tuple[tuple[str, Row], ...]
    source: tuple[str, ...] = ("events",)
    where: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    sets: str = "{}"
    options: str = ""
    power: int = 2
    tightness: float = 1
    partitions: int = 1
    specs: tuple[DatasetSpec, ...] = field(default=CITY, repr=False)

    @property
    def sql(self) -> str:
        """The statement."""
        names = ", ".join(f"k{index}" for index in range(len(self.keys)))
        shown = [f"{key} AS k{index}" for index, key in enumerate(self.keys)]
        shown += [f"{item} AS a{index}" for index, item in enumerate(self.aggregates)]
        text = f"SELECT {self.options} {', '.join(shown)} FROM {' '.join(self.source)}"
        text += f" WHERE {' AND '.join(self.where)}" if self.where else ""
        return text + (f" GROUP BY {self.sets.format(names)}" if self.keys else "")

    @property
    def catalogue(self) -> Mapping[str, DatasetSpec]:
        """The tables by name."""
        return {spec.dataset_id: spec for spec in self.specs}

    @property
    def database(self) -> dict[str, tuple[Row, ...]]:
        """The rows of each table."""
        return {name: tuple(row for table, row in self.rows if table == name) for name in self.catalogue}

    @property
    def units(self) -> list[str]:
        """Every privacy unit that has a row anywhere."""
        return sorted({str(row[0]) for name, row in self.rows if not self.catalogue[name].public})

    def without(self, unit: Value) -> Case:
        """The neighbour: one unit less, with all of its rows in all tables."""
        kept = tuple((name, row) for name, row in self.rows if self.catalogue[name].public or row[0] != unit)
        return replace(self, rows=kept)

    @property
    def granted(self) -> dict[str, Granted]:
        """The tables as a grant of everything shows them."""
        return {
            spec.dataset_id: Granted(
                spec, Scope(dataset_id=spec.dataset_id, columns=tuple(item.name for item in spec.columns))
            )
            for spec in self.specs
        }

    def bind(self) -> tuple[SelectPlan, BoundSelect]:
        """The plan and its proof. Raises Refused by the rule that says no."""
        plan = parse_select(self.sql)
        bound = bind_select(plan, self.granted, 1000, self.power)
        _check_room(bound)
        return plan, bound

    def planned(self) -> tuple[SelectPlan, BoundSelect] | None:
        """The plan and its proof; None for a statement that is refused."""
        try:
            return self.bind()
        except Refused:
            return None

    def clips(self, bound: BoundSelect) -> tuple[Clips, int]:
        """Clips at the catalogue's limit or, where they are learned, far below; and the clip of the correction."""
        learned = learned_norms(bound)

        def clip(limit: int, kind: NormKind) -> int:
            if kind not in learned:
                return limit
            return min(limit, max(1, int(limit * self.tightness))) if self.tightness else max(1, limit - 1)

        sums = clip(bound.sums.clipping.limit, bound.sums.clipping.kind) if bound.sums else 1
        histograms = tuple(clip(item.clipping.limit, item.clipping.kind) for item in bound.histograms)
        return Clips(sums, histograms), max(sums, bound.sums.clipping.limit if bound.sums else 1)

    def smaller(self) -> Iterator[Case]:
        """Cases with one part less."""
        for name, parts in (("where", self.where), ("aggregates", self.aggregates), ("rows", self.rows)):
            least = 1 if name == "aggregates" else 0
            for at in range(len(parts) if len(parts) > least else 0):
                yield replace(self, **{name: parts[:at] + parts[at + 1 :]})  # type: ignore[arg-type]
        if self.partitions > 1:
            yield replace(self, partitions=1)
        if self.options:
            yield replace(self, options="")
        if self.tightness != 1:
            yield replace(self, tightness=1)
        if self.keys and self.sets == "{}":
            for at in range(len(self.keys)):
                yield replace(self, keys=self.keys[:at] + self.keys[at + 1 :])


def shrunk(case: Case, fails: Callable[[Case], bool], rounds: int = 12) -> Case:
    """The smallest case that still fails, by greedy steps."""
    for _ in range(rounds):
        smaller = next((item for item in case.smaller() if fails(item)), None)
        if smaller is None:
            return case
        case = smaller
    return case


def make_case(seed: int) -> Case:
    """The case of that seed."""
    r = random.Random(seed)
    low = r.randint(-50, 20)
    enormous = r.random() < 0.15
    specs = city(
        low,
        r.randint(low, 50),
        (-(10**15), 10**15) if enormous and r.random() < 0.5 else None,
        2 * 10**9 if enormous else 1000,
        r.random() < 0.7,
        r.choice([1, 2, 3, 5, 5000]),
        r.choice([1, 2, 4]),
    )
    source = r.choice(FROM)
    tables = [name for name in NUMBERS if any(name in part.split() for part in source)]
    writer = Writer(r, tables)
    keys = tuple(writer.key() for _ in range(r.choice([0, 0, 1, 1, 2])))
    keys = tuple(dict.fromkeys(keys))
    several = len(keys) > 1 and r.random() < 0.4
    return Case(
        specs=specs,
        source=source,
        aggregates=tuple(writer.aggregate(several, bool(keys)) for _ in range(r.choice([1, 1, 2, 3]))),
        where=tuple(writer.truth(2) for _ in range(r.choice([0, 0, 1, 2]))),
        keys=keys,
        sets=r.choice(["ROLLUP ({})", "CUBE ({})", "GROUPING SETS ((k0, k1), (k1), ())"]) if several else "{}",
        options=writer.options(),
        power=r.choice([1, 2, 2]),
        rows=tuple(_rows(r, specs)),
        tightness=r.choice([1, 1, 1, 0.5, 0.1, 0.0]),
        partitions=r.choice([1, 1, 3]),
    )


def _rows(r: random.Random, specs: tuple[DatasetSpec, ...]) -> Iterator[tuple[str, Row]]:
    """Units with none, one or many rows; values inside and far outside of bounds and domains; duplicates."""
    rows: list[tuple[str, Row]] = []
    extreme = r.random() < 0.4

    def number(*usual: int) -> int:
        hostile = [10**15, -(10**15), 2**62, -(2**62), 2**63 - 1, -(2**63), 2**31, -1, 0]
        return r.choice(hostile) if extreme and r.random() < 0.3 else r.randint(*usual)

    def maybe(value: Value) -> Value:
        return None if r.random() < 0.15 else value

    for index in range(r.choice([1, 2, 3, 4])):
        who = f"u{index}"
        for _ in range(r.choice([0, 1, 2, 4, 7])):
            row: Row = (
                who, maybe(r.choice([*KINDS, "outside", "b"])), maybe(r.random() < 0.5), maybe(number(-1, 8)),
                maybe(number(-60, 60)), maybe(number(-400, 400)), number(0, 10_000), maybe(r.choice(DAYS)),
                maybe(r.choice(["x", "it's", "", "y", "z", "w", "v"])), maybe(r.choice(["c0", "c1", "c2", "c9"])),
            )  # fmt: skip
            rows += [("events", row)] * r.choice([1, 1, 1, 3])
        if r.random() < 0.8:
            person: Row = (
                who, maybe(r.choice("mfx")), number(0, 12), maybe(number(-100, 10**6)), r.random() < 0.5,
                r.choice("stu"), r.choice(["c0", "c1", "c8"]),
            )  # fmt: skip
            rows.append(("people", person))
        for _ in range(r.choice([0, 1, 2, 5])):
            rows.append(("visits", (who, r.choice(["p", "q", "s"]), maybe(number(-3, 9)))))
    for code in ("c0", "c1", "c2"):
        rows.append(("areas", (code, r.choice("XYZ"), maybe(r.randint(0, 3)), r.choice("lm"))))
    r.shuffle(rows)
    catalogue = {spec.dataset_id: spec for spec in specs}
    for name, row in rows:  # what is declared never to be missing is not: the import sees to that
        columns = zip(row, catalogue[name].columns, strict=True)
        yield name, tuple(FILLED[item.type] if cell is None and not item.nullable else cell for cell, item in columns)


class Writer:
    """Writes random expressions over some tables."""

    def __init__(self, r: random.Random, tables: list[str]) -> None:
        self._r = r
        self._numbers = [name for table in tables for name in NUMBERS[table]]
        self._truths = [name for table in tables for name in TRUTHS[table]]
        self._dates = [name for table in tables for name in DATES[table]]
        self._texts = [name for table in tables for name in TEXTS[table]]
        self._open = [name for table in tables for name in OPEN[table]]
        self._unit = f"{tables[0]}.who"

    def options(self) -> str:
        r = self._r
        told = []
        if r.random() < 0.3:
            told.append(f"bounds={r.choice(['auto', 'catalogue'])}")
        if r.random() < 0.15:
            told.append(f"max_rows_contributed={r.choice([1, 2, 4])}")
        if r.random() < 0.3:
            told.append(f"max_groups_contributed={r.choice([1, 2, 3])}")
        return f"WITH DIFFERENTIAL_PRIVACY OPTIONS({', '.join(told)})" if told else ""

    def aggregate(self, several: bool, grouped: bool) -> str:
        r = self._r
        forms = [
            "COUNT(*)",
            f"COUNT({self.number(1)})",
            f"SUM({self.number(2)})",
            f"SUM({self.number(2)})",
            f"AVG({self.number(1)})",
            f"VARIANCE({self.number(1)})",
        ]
        if not several:
            forms += [f"COUNT(DISTINCT {self._unit})", f"MEDIAN({self.number(1)})", f"MAX({self.number(1)})"]
            forms += [f"QUANTILE_CONT({self.number(1)}, {r.choice(['0.25', '0.9', '0.125'])})"]
        if not grouped:
            forms += [f"COUNT(DISTINCT {r.choice([*self._texts, self._numbers[0], 'ABS(' + self._numbers[0] + ')'])})"]
        text = r.choice(forms)
        return f"{text} FILTER (WHERE {self.truth(1)})" if r.random() < 0.25 else text

    def key(self) -> str:
        r = self._r
        forms = [*self._texts, *self._texts, *self._truths]
        forms += [f"WIDTH_BUCKET({self.number(1)}, -5, 9.5, {r.choice([1, 3])})"]
        forms += [f"CASE WHEN {self.truth(1)} THEN 'hi' ELSE 'lo' END", f"CASE WHEN {self.truth(1)} THEN 1 ELSE -7 END"]
        forms += [f"LEAST(GREATEST(FLOOR({self._numbers[0]}), -2), 2)"]
        forms += [f"DATE_TRUNC('{r.choice(['year', 'quarter', 'month', 'week'])}', {day})" for day in self._dates]
        forms += [f"{r.choice(['YEAR', 'MONTH', 'QUARTER'])}({day})" for day in self._dates]
        forms += self._open
        return r.choice(forms)

    def number(self, depth: int) -> str:
        r = self._r
        if depth == 0 or r.random() < 0.25:
            constant = r.choice(["0", "1", "-3", "2.5", "0.1", "100"])
            return r.choice([*self._numbers, *self._numbers, *self._numbers, constant])
        a, b = self.number(depth - 1), self.number(depth - 1)
        divisor = r.choice(["3", "-7", "0.5", "12.25"])
        forms = [
            f"({a} + {b})", f"({a} - {b})", f"({a} * {b})", f"({a} / {divisor})", f"(-{a})",
            f"ABS({a})", f"FLOOR({a})", f"CEIL({a})", f"ROUND({a})", f"ROUND({a}, 1)", f"LEAST({a}, {b})",
            f"GREATEST({a}, {b})", f"LEAST(GREATEST({a}, -5), 20)", f"COALESCE({a}, {b})",
            f"CASE WHEN {self.truth(depth - 1)} THEN {a} ELSE {b} END",
            f"CASE WHEN {self.truth(depth - 1)} THEN {a} END",
            f"NULLIF({a}, {b})", f"WIDTH_BUCKET({a}, -10, 10, 4)",
        ]  # fmt: skip
        forms += [f"{r.choice(['YEAR', 'MONTH', 'QUARTER'])}({day})" for day in self._dates]
        return r.choice(forms)

    def truth(self, depth: int) -> str:
        r = self._r
        if depth > 0 and r.random() < 0.3:
            a, b = self.truth(depth - 1), self.truth(depth - 1)
            return r.choice([f"({a} AND {b})", f"({a} OR {b})", f"(NOT {a})", f"(({a}) IS NULL)"])
        a, b = self.number(max(0, depth - 1)), self.number(0)
        forms = [f"{a} {r.choice(['<', '<=', '>', '>=', '=', '<>'])} {b}"]
        forms += [f"{a} BETWEEN -10 AND 10.5", f"{a} IN (1, 2, -7)"]
        for name in self._texts:
            forms += [f"{name} = 'it''s'", f"{name} IN ('a', 'm', 'X', 'p')"]
        for day in self._dates:
            forms += [f"{day} >= DATE '2020-02-29'", f"{day} <> '1999-12-31'"]
        forms += [f"{name} IS NOT NULL" for name in (*self._numbers[:1], *self._open)]
        forms += [*self._truths, *[f"{name} <> false" for name in self._truths]]
        return r.choice(forms)
