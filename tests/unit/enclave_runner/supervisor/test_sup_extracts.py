"""Extracts of real stored tables: sealed, only what is needed, the same exact vectors in one part or in several."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Aggregation, CellQuery, Done, Extraction, Spread, Task, Vectors
from enclave_runner.plan.bound import BoundSelect
from enclave_runner.plan.render import render_sums, render_units
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor import extracts
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.extracts import Extracts, extract, partitions_for, query_extraction, tables_of
from enclave_runner.supervisor.plan_query import PlannedQuery
from tests.support.bound_plans import bound, held
from tests.support.query_site import QuerySite, query_site

JOINED = "SELECT region, COUNT(*) AS n, COUNT(DISTINCT who) AS u FROM visits JOIN homes USING (who) GROUP BY region"
SUMMED = "SELECT kind, SUM(amount) AS s FROM visits GROUP BY kind"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuerySite]:
    with query_site(tmp_path_factory.mktemp("extracts")) as found:
        yield found


@pytest.fixture
def enclave(site: QuerySite) -> Iterator[Enclave]:
    """The enclave; every test leaves as many memories open as it found."""
    before = open_memories()
    yield site.site.enclave
    assert open_memories() == before


def open_memories() -> list[str]:
    """What this process holds of anonymous files; the waiting workers' sockets and pipes come and go."""
    targets = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return sorted(target for target in targets if target.startswith("/memfd:"))


def order_of(query: PlannedQuery, partitions: int = 1, spread: bool = False) -> Extraction:
    return query_extraction(query.plan, query.held, spread, partitions)


def task_of(plan: BoundSelect) -> Aggregation:
    axes = tuple(axis.labels for axis in plan.axes)
    assert plan.sums is not None
    queries = [CellQuery(sql=render_sums(plan, plan.sums.clipping.limit), axes=axes, width=len(plan.sums.statistics))]
    queries += [CellQuery(sql=render_units(plan, item), axes=axes, width=1) for item in plan.units]
    return Aggregation(tables=len(plan.sources), queries=tuple(queries), coarsenings=(1,) * len(queries))


def summed(enclave: Enclave, made: Extracts, task: Task) -> list[list[int]]:
    total: list[list[int]] = []
    for descriptor in made.each():
        answer = enclave.work(task, [descriptor])
        assert isinstance(answer, Vectors)
        total = [[*vector] for vector in answer.vectors] if not total else [
            [a + b for a, b in zip(x, y, strict=True)] for x, y in zip(total, answer.vectors, strict=True)
        ]  # fmt: skip
    return total


@pytest.mark.parametrize("sql", [JOINED, SUMMED])
@pytest.mark.parametrize("partitions", [2, 5])
def test_the_vectors_of_all_partitions_together_are_those_of_the_whole(
    site: QuerySite, enclave: Enclave, sql: str, partitions: int
) -> None:
    query = site.prepare(sql).query
    found = []
    for count in (1, partitions):
        with extracts.extracts(enclave, order_of(query, count), query.held) as made:
            found.append(summed(enclave, made, task_of(query.plan)))
    assert found[0] == found[1]
    assert any(cell for vector in found[0] for cell in vector)


def test_the_norms_of_all_partitions_together_are_those_of_the_whole(site: QuerySite, enclave: Enclave) -> None:
    query = site.prepare("SELECT COUNT(*) AS n FROM visits").query
    spread = Spread(norm="rows", edges=(1, 2, 3, 4, 5, 64))
    found = []
    for count in (1, 3):
        with extracts.extracts(enclave, order_of(query, count, spread=True), query.held) as made:
            found += [made.spread(spread), made.spread(spread)]
    assert found == [(295, 300, 300, 300, 300, 5)] * 4  # 5 of the people with one row had 30 more


def test_one_partition_is_built_once_and_several_anew_for_every_pass(
    site: QuerySite, enclave: Enclave, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    real = extracts.build

    def noted(*given: object) -> int:
        order = given[1]
        assert isinstance(order, Extraction)
        built.append(order.partition)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(extracts, "build", noted)
    query = site.prepare(SUMMED).query
    with extracts.extracts(enclave, order_of(query), query.held) as made:
        assert [*made.each()] == [*made.each()]
    assert built == [0]
    built.clear()
    with extracts.extracts(enclave, order_of(query, 2), query.held) as made:
        assert len([*made.each()]) == len([*made.each()]) == 2
    assert built == [0, 1, 0, 1]


def test_what_a_worker_gets_is_sealed(site: QuerySite, enclave: Enclave) -> None:
    query = site.prepare(SUMMED).query
    wanted = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    with extract(enclave, order_of(query), query.held) as descriptor:
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & wanted == wanted
        assert not os.get_inheritable(descriptor)
        assert any("extract" in memory for memory in open_memories())
        assert b"p1499" not in os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def test_a_pass_that_is_broken_off_leaves_nothing_open(site: QuerySite, enclave: Enclave) -> None:
    query = site.prepare(SUMMED).query
    with pytest.raises(LookupError), extracts.extracts(enclave, order_of(query, 3), query.held) as made:
        for _ in made.each():
            raise LookupError


@pytest.mark.parametrize("fault", ["answer", "worker", "store"])
def test_a_builder_that_fails_leaves_nothing_open(
    site: QuerySite, enclave: Enclave, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    query = site.prepare(SUMMED).query

    def worked(self: Enclave, task: Task, descriptors: list[int], profile: JailProfile | None = None) -> object:
        if fault == "worker":
            raise Failed("job.limit")
        return Vectors(vectors=()) if fault == "answer" else Done()

    def damaged(self: RawStore, name: str, columns: tuple[str, ...]) -> list[int]:
        raise Failed("rawdata.damaged")

    monkeypatch.setattr(Enclave, "work", worked)
    if fault == "store":
        monkeypatch.setattr(RawStore, "open_columns", damaged)
    with pytest.raises(Failed) as caught:
        extracts.build(enclave, order_of(query), query.held)
    assert caught.value.code == {"answer": "job.answer", "worker": "job.limit", "store": "rawdata.damaged"}[fault]


def test_how_many_partitions_follows_from_public_sizes(site: QuerySite, enclave: Enclave) -> None:
    query = site.prepare(SUMMED).query
    order = order_of(query)
    assert partitions_for(enclave, order) == 1
    wide = msgspec.structs.replace(order, parts=(msgspec.structs.replace(order.parts[0], rows=100_000_000),))
    many = partitions_for(enclave, wide)
    assert 2 <= many <= extracts.MAX_PARTITIONS
    profile = msgspec.structs.replace(
        enclave.limits.extract_profile, file_mb=4 * enclave.limits.extract_profile.file_mb
    )
    roomy = replace(enclave, limits=msgspec.structs.replace(enclave.limits, extract_profile=profile))
    assert many / 4 <= partitions_for(roomy, wide) <= many / 4 + 1
    absurd = msgspec.structs.replace(order, parts=(msgspec.structs.replace(order.parts[0], rows=10**12),))
    with pytest.raises(Refused) as caught:
        partitions_for(enclave, absurd)
    assert (caught.value.rule, caught.value.facts) == ("job.too-large", {"max": str(extracts.MAX_PARTITIONS)})


def test_units_with_few_rows_are_not_counted_where_one_clip_is_fixed() -> None:
    tables: dict[str, list[tuple[object, ...]]] = {"visits": [], "calls": [], "homes": []}
    plan = bound("SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(max_rows_contributed = 3) COUNT(*) AS n FROM visits")
    assert query_extraction(plan, held(plan, tables), spread=False).parts[0].above == 3
    assert query_extraction(plan, held(plan, tables), spread=True).parts[0].above is None
    both = bound("SELECT COUNT(*) AS n, MEDIAN(amount) AS m FROM visits")
    assert query_extraction(both, held(both, tables), spread=False).parts[0].above == 4
    joined = bound("SELECT COUNT(*) AS n FROM visits JOIN calls USING (who)")  # norms are multiplied
    assert [part.above for part in query_extraction(joined, held(joined, tables), spread=False).parts] == [None, None]


def test_a_rehearsal_sees_the_types_of_the_used_columns() -> None:
    plan = bound(
        "SELECT region, SUM(amount) AS s FROM visits JOIN homes USING (who) WHERE day > '2022-02-01' GROUP BY region"
    )
    found = tables_of(held(plan, {"visits": [], "homes": []}), plan)
    assert [[(name, kind.value) for name, kind in table] for table in found] == [
        [("day", "date"), ("amount", "decimal")],
        [("region", "text")],
    ]
