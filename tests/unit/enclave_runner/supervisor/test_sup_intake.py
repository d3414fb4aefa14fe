"""Importing into a running enclave: published whole or not at all; a report and a refusal without values."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from enclave_runner.contract.codec import encode
from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import seal
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat, ImportData, Rejection
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import IntakeAnswer, Task, TaskAnswer
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.holdings import Holdings
from enclave_runner.supervisor.intake import ROW_RULES, import_data
from tests.support.descriptors import open_kinds
from tests.support.enclave_home import (
    PEOPLE,
    PEOPLE_CSV,
    Bureau,
    Site,
    changed,
    column,
    make_bureau,
    rewound,
    running_site,
    sign_spec,
)
from tests.support.worker_files import parquet_of

PLAIN = DatasetSpec(
    dataset_id="plain",
    columns=(column("id", ColumnType.TEXT), column("n", ColumnType.INTEGER, bounds=(0, 9))),
    entity_set="resident",
    entity_column="id",
    key_kind=KeyKind.OPAQUE,
    population_cap=5,
    rows_per_entity=10,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An enclave that takes files up to 1 MiB."""
    bureau = make_bureau(tmp_path_factory.mktemp("small"))
    limits = bureau.home.policies / "limits.toml"
    limits.write_text(limits.read_text().replace("max_bytes = 68719476736", "max_bytes = 1048576"))
    with running_site(bureau) as site:
        yield site


def raw_files(site: Site) -> list[str]:
    return sorted(path.name for path in site.bureau.home.rawdata.iterdir())


def refused(site: Site, spec: DatasetSpec, data: str | bytes) -> Refused:
    """The refusal of an import that must change nothing."""
    before = raw_files(site), site.enclave.holdings.newest(), open_kinds()
    with pytest.raises(Refused) as caught:
        site.import_csv(spec, data)
    assert before == (raw_files(site), site.enclave.holdings.newest(), open_kinds())
    return caught.value


def test_versions_are_numbered_and_named_by_content(small: Site) -> None:
    first = small.import_csv(PLAIN, "id,n\na,1\n")
    second = small.import_csv(PLAIN, "id,n\na,1\nb,2\n")
    again = small.import_csv(PLAIN, "id,n\na,1\n")
    assert [item.version.split("-")[0] for item in (first, second, again)] == ["v1", "v2", "v3"]
    assert first.version.split("-")[1] == again.version.split("-")[1] == first.source_sha256[:12]
    assert (second.accepted, second.rejected, second.rejections) == (2, 0, ())
    (listed,) = [item for item in small.enclave.holdings.listed() if item.dataset_id == "plain"]
    assert (listed.version, listed.rows) == (again.version, 1)
    assert {"plain@" + item.version for item in (first, second, again)} <= set(raw_files(small))


def test_a_spec_without_the_officers_signature_is_refused(small: Site) -> None:
    for signed in (seal(PLAIN, DATASET_PURPOSE, small.bureau.control), seal(PLAIN, "grant", small.bureau.officer)):
        with rewound(b"id,n\na,1\n") as file, pytest.raises(Refused) as caught:
            import_data(small.enclave, ImportData(spec=signed, format=FileFormat.CSV), file)
        assert caught.value.rule == "signature.invalid"


def test_a_rejected_row_refuses_the_whole_import_unless_it_is_tolerated(small: Site) -> None:
    spec = changed(PLAIN, dataset_id="tolerant")
    caught = refused(small, spec, "id,n\na,1\nb,99\n")
    assert (caught.rule, caught.facts) == (
        "import.rejected",
        {"rejected": "1", "rows": "2", "permille": "0", "row": "2", "column": "n", "broken": "row.bounds"},
    )
    assert refused(small, changed(spec, max_rejected_permille=499), "id,n\na,1\nb,99\n").rule == "import.rejected"
    report = small.import_csv(changed(spec, max_rejected_permille=500), "id,n\na,1\nb,99\n")
    assert (report.accepted, report.rejected) == (1, 1)


def test_refusals_name_no_value(small: Site) -> None:
    spec = changed(PLAIN, dataset_id="silent")
    for data in ("id,n\ncanary-1,canary-2\n", "canary-1,canary-2\n", "id,n\ncanary,1,2\n", 'id,n\n"canary\nx,1\n'):
        caught = refused(small, spec, data)
        assert "canary" not in f"{caught}{caught.facts}"


def reported(site: Site, monkeypatch: pytest.MonkeyPatch, rejected: int, *rejections: Rejection) -> None:
    """Import three rows with a worker that reads honestly and then reports so."""
    work = type(site.enclave).work

    def hostile(enclave: Enclave, task: Task, descriptors: list[int], profile: JailProfile | None = None) -> TaskAnswer:
        honest = work(enclave, task, descriptors, profile)
        assert isinstance(honest, IntakeAnswer)
        return replace(honest, accepted=3 - rejected, rejected=rejected, rejections=rejections)

    with monkeypatch.context() as patched:
        patched.setattr(type(site.enclave), "work", hostile)
        site.import_csv(changed(PLAIN, dataset_id="told", max_rejected_permille=1000), "id,n\na,1\nb,2\nc,3\n")


@pytest.mark.parametrize(
    ("rejected", "rejections"),
    [
        (1, [Rejection(row=1, column="p17 earns 4000", rule="row.type")]),
        (1, [Rejection(row=1, column="n", rule="p17 earns 4000")]),
        (1, [Rejection(row=1, column="n", rule="import.format")]),
        (1, [Rejection(row=4, column="n", rule="row.type")]),
        (1, [Rejection(row=0, column="n", rule="row.type")]),
        (1, [Rejection(row=(1 << 20) + 1, column="", rule="row.malformed")]),
        (1, []),
        (0, [Rejection(row=1, column="n", rule="row.type")]),
    ],
)
def test_a_report_of_the_worker_s_own_words_fails(
    small: Site, monkeypatch: pytest.MonkeyPatch, rejected: int, rejections: list[Rejection]
) -> None:
    before = small.enclave.holdings.newest(), raw_files(small)
    with pytest.raises(Failed) as caught:
        reported(small, monkeypatch, rejected, *rejections)
    assert caught.value.code == "job.answer"
    assert (small.enclave.holdings.newest(), raw_files(small)) == before


def test_a_report_of_numbers_columns_and_row_rules_passes(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for rule in ROW_RULES:
        reported(small, monkeypatch, 2, Rejection(row=1, column="", rule=rule), Rejection(row=3, column="n", rule=rule))


def test_the_row_rules_are_those_of_the_pack(small: Site) -> None:
    assert {rule for rule in small.enclave.pack.rules if rule.startswith("row.")} == ROW_RULES


def test_blank_lines_before_a_malformed_row_are_no_fault(small: Site) -> None:
    """They count where the row is named, and are no rows."""
    spec = changed(PLAIN, dataset_id="blank", max_rejected_permille=500)
    report = small.import_csv(spec, "id,n\n\n\n\na,1\n\n\nx,1,2\n")
    assert (report.accepted, report.rejections) == (1, (Rejection(row=7, column="", rule="row.malformed"),))


def test_size_population_and_emptiness(small: Site) -> None:
    spec = changed(PLAIN, dataset_id="sized")
    assert refused(small, spec, b"id,n\n" + b"a,1\n" * 300_000).rule == "import.too-large"
    assert refused(small, spec, "id,n\n" + "".join(f"k{n},1\n" for n in range(6))).rule == "import.population"
    assert refused(small, spec, "id,n\n").rule == "import.empty"
    assert refused(small, spec, b"").rule == "import.header"
    assert small.import_csv(spec, "id,n\n" + "".join(f"k{n % 5},1\n" for n in range(50))).accepted == 50


@pytest.mark.parametrize(
    "fields",
    [
        {"entity_set": "enterprise"},
        {"key_kind": KeyKind.CREDIT_CODE},
        {"entity_column": "n"},
    ],
)
def test_a_dataset_protects_the_same_people_for_ever(small: Site, fields: dict[str, object]) -> None:
    spec = changed(PLAIN, dataset_id="same")
    if small.enclave.holdings.find("same") is None:
        small.import_csv(spec, "id,n\na,1\n")
    assert refused(small, changed(spec, **fields), "id,n\na,1\n").rule == "import.spec-changed"


def test_what_is_no_regular_file_is_refused(small: Site, tmp_path: Path) -> None:
    """A pipe could keep an import waiting for ever, and could not be read again."""
    order = ImportData(spec=sign_spec(small.bureau, changed(PLAIN, dataset_id="piped")), format=FileFormat.CSV)
    read, write = os.pipe()
    folder = os.open(tmp_path, os.O_RDONLY)
    for descriptor in (read, folder):
        with pytest.raises(Refused) as caught:
            import_data(small.enclave, order, descriptor)
        assert caught.value.rule == "import.format"
    for descriptor in (read, write, folder):
        os.close(descriptor)


def at_once(site: Site, specs: list[DatasetSpec]) -> tuple[list[str], list[str]]:
    """Import one file under each spec, all started together: the versions and the refusals."""
    together = threading.Barrier(len(specs))
    versions, rules = [], []

    def take_in(spec: DatasetSpec) -> None:
        together.wait(timeout=30)
        try:
            versions.append(site.import_csv(spec, "id,n\na,1\n").version)
        except Refused as refusal:
            rules.append(refusal.rule)

    threads = [threading.Thread(target=take_in, args=(spec,)) for spec in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return [version.split("-")[0] for version in versions], rules


def test_two_first_imports_at_once_cannot_both_say_who_is_protected(small: Site) -> None:
    first = changed(PLAIN, dataset_id="raced")
    other = changed(first, entity_set="enterprise")
    assert at_once(small, [first, other]) == (["v1"], ["import.spec-changed"])
    (held,) = [item for item in small.enclave.holdings.newest() if item.dataset_id == "raced"]
    assert held.version.startswith("v1-")


def test_imports_at_once_get_a_number_each(small: Site) -> None:
    versions, rules = at_once(small, [changed(PLAIN, dataset_id="crowd")] * 4)
    assert (sorted(versions), rules) == (["v1", "v2", "v3", "v4"], [])


def test_parquet_through_the_jail(small: Site) -> None:
    data = parquet_of("SELECT 'a' AS id, 5 AS n UNION ALL SELECT 'b', 6")
    assert small.import_bytes(changed(PLAIN, dataset_id="columns"), data, FileFormat.PARQUET).accepted == 2


def test_a_fault_while_publishing_leaves_no_version(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise Failed("ledger.write")

    before = small.enclave.holdings.newest()
    monkeypatch.setattr(Holdings, "add", broken)
    with pytest.raises(Failed):
        small.import_csv(changed(PLAIN, dataset_id="unlucky"), "id,n\na,1\n")
    assert small.enclave.holdings.newest() == before
    assert not [name for name in raw_files(small) if name.startswith(".draft")]


def test_drafts_of_a_crash_are_swept_at_the_next_start(tmp_path: Path) -> None:
    bureau: Bureau = make_bureau(tmp_path)
    with running_site(bureau) as site:
        site.import_csv(PEOPLE, PEOPLE_CSV)
        published = raw_files(site)
        left = bureau.home.rawdata / ".draft-people-0123456789abcdef"
        left.mkdir()
        (left / "00000.column").write_bytes(b"half a file")
        assert len(raw_files(site)) == 2
    with running_site(bureau) as site:
        assert raw_files(site) == published
        assert site.enclave.holdings.newest()[0].rows == 200
        assert b"p0" not in encode(site.enclave.holdings.listed())
