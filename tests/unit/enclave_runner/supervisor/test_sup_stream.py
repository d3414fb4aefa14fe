"""The data path of an import: what ends it early, what a hostile worker may send, and that nothing is left behind."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import resource
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.errors import Failed, Refused, YuneiError
from enclave_runner.contract.wire import FileFormat, ImportData
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.frames import HEADER, MAX_PAYLOAD
from enclave_runner.kinds.source import HEAD_BYTES
from enclave_runner.kinds.tasks import Declined, Intake, IntakeAnswer, Task, TaskAnswer, Unpacking
from enclave_runner.rawdata.store import Draft, RawStore
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.intake import import_data
from enclave_runner.supervisor.stream import open_source
from tests.support.descriptors import open_kinds
from tests.support.enclave_home import Site, column, make_bureau, running_site, sign_spec, with_enclave
from tests.support.worker_files import parquet_of

KEYED = DatasetSpec(
    dataset_id="keyed",
    columns=(column("id", ColumnType.TEXT), column("n", ColumnType.INTEGER)),
    entity_set="resident",
    entity_column="id",
    key_kind=KeyKind.OPAQUE,
    population_cap=10**6,
    unique=True,
    rows_per_entity=1,
    max_rejected_permille=500,
)
HEAD = b"id,n\n"
MANY = HEAD + b"".join(b"k%d,%d\n" % (number, number) for number in range(60_000))
Hostile = Callable[[list[int]], None]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(make_bureau(tmp_path_factory.mktemp("stream"), parquet_mb="1")) as site:
        yield site


@pytest.fixture(autouse=True)
def nothing_left(site: Site) -> Iterator[None]:
    """Neither a descriptor nor a thread nor a draft outlives an import, however it ends."""
    opened, threads = Counter(open_kinds()), threading.active_count()
    yield
    # What other tests of this process left may be collected meanwhile.
    assert not Counter(open_kinds()) - opened
    assert threading.active_count() <= threads
    assert not [path for path in site.bureau.home.rawdata.iterdir() if path.name.startswith(".draft")]


def column_of(site: Site, name: str) -> bytes:
    """The stored bytes of one column, decrypted."""
    newest = site.enclave.holdings.find("keyed")
    assert newest is not None
    (file,) = site.enclave.store.open_columns(newest.file, (name,))
    content = os.pread(file, os.fstat(file).st_size, 0)
    os.close(file)
    return content


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_file_of_many_pipes_length_comes_in_whole(site: Site, pack: Callable[[bytes], bytes]) -> None:
    assert site.import_csv(KEYED, pack(MANY)).accepted == 60_000
    assert column_of(site, "n").startswith(b"PAR1")


def test_no_plaintext_stands_in_any_file_of_the_store(site: Site) -> None:
    site.import_csv(KEYED, HEAD + b"canary-key,1\n" * 2)
    held = site.enclave.holdings.find("keyed")
    assert held is not None
    files = list((site.bureau.home.rawdata / held.file).iterdir())
    assert len(files) >= 3
    assert not [path for path in files if b"canary-key" in path.read_bytes() or b"PAR1" in path.read_bytes()]
    assert b"canary-key" in column_of(site, "id")


def test_repeated_keys_take_a_second_reading_and_keep_the_first_rows(site: Site) -> None:
    report = site.import_csv(KEYED, HEAD + b"a,1\nb,2\na,3\nc,x\na,4\n" + b"".join(b"d%d,1\n" % n for n in range(9)))
    assert (report.accepted, report.rejected) == (11, 3)
    assert [(item.row, item.rule) for item in report.rejections] == [
        (3, "row.duplicate"),
        (4, "row.type"),
        (5, "row.duplicate"),
    ]


def test_a_file_that_changes_between_its_readings_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Beyond its head, which is read once."""
    file = tmp_path / "changing.csv"
    file.write_bytes(MANY + b"a,1\na,2\nb,3\n")
    work = type(site.enclave).work

    def meddle(enclave: object, task: Task, descriptors: list[int], profile: JailProfile | None = None) -> TaskAnswer:
        answer = work(site.enclave, task, descriptors, profile)
        if isinstance(task, Intake):
            file.write_bytes(MANY + b"a,1\na,9\nb,3\n")
        return answer

    monkeypatch.setattr(type(site.enclave), "work", meddle)
    order = ImportData(spec=sign_spec(site.bureau, KEYED), format=FileFormat.CSV)
    with file.open("rb") as handed, pytest.raises(Refused) as caught:
        import_data(site.enclave, order, handed.fileno())
    assert caught.value.rule == "import.changed"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("pack_flipped", [bytes, gzip.compress], ids=["to-plain", "to-gzip"])
@pytest.mark.parametrize("repeat", [b"", b"k7,7\n"], ids=["one-reading", "two-readings"])
def test_a_header_that_changes_once_it_was_read_exchanges_no_columns(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pack: Callable[[bytes], bytes],
    pack_flipped: Callable[[bytes], bytes],
    repeat: bytes,
) -> None:
    """The file is written anew before each reading, after its head was read."""
    rows = b"".join(b"k%d,%d\n" % (number, number) for number in range(1000)) + repeat
    content, flipped = pack(HEAD + rows), pack_flipped(b"n,id\n" + rows)
    file, readings, draft = tmp_path / "flipping.csv", [], RawStore.draft
    file.write_bytes(content)

    def flip(store: RawStore, dataset_id: str, columns: tuple[str, ...]) -> Draft:
        readings.append(dataset_id)
        file.write_bytes(flipped[: len(content)])
        return draft(store, dataset_id, columns)

    monkeypatch.setattr(RawStore, "draft", flip)
    order = ImportData(spec=sign_spec(site.bureau, KEYED), format=FileFormat.CSV)
    with file.open("rb") as handed:
        report = import_data(site.enclave, order, handed.fileno())
    assert (report.source_sha256, len(readings)) == (hashlib.sha256(content).hexdigest(), 2 if repeat else 1)
    numbers = pq.read_table(pa.BufferReader(column_of(site, "n"))).column("n").to_pylist()
    assert numbers[:1000] == list(range(1000))


def test_what_is_fed_begins_with_the_head_and_goes_on_behind_it(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "changing.csv"
    file.write_bytes(b"x" + MANY)
    with file.open("rb") as handed:
        handed.seek(1)
        with open_source(handed.fileno(), FileFormat.CSV, site.enclave.limits) as source:
            file.write_bytes(bytes(len(MANY) + 1))
            assert b"".join(source.pieces()) == MANY[:HEAD_BYTES] + bytes(len(MANY) - HEAD_BYTES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4] + b"\0\0\0\0",
        lambda data: data[:500] + bytes(64) + data[564:],
    ],
)
def test_damaged_gzip_is_refused(site: Site, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Refused) as caught:
        site.import_csv(KEYED, damage(gzip.compress(MANY)))
    assert caught.value.rule == "import.format"


def test_large_parquet_is_told_to_come_as_csv(site: Site) -> None:
    noise = parquet_of("SELECT md5(range::VARCHAR) AS id, range AS n FROM range(60000)")
    with pytest.raises(Refused) as caught:
        site.import_bytes(KEYED, noise, FileFormat.PARQUET)
    assert (caught.value.rule, caught.value.facts) == ("import.parquet-large", {"max": str(1 << 20)})


def frame(index: int, payload: bytes) -> bytes:
    return HEADER.pack(index, len(payload)) + payload


@pytest.mark.parametrize(
    ("output", "code"),
    [
        (frame(2, b"x"), "job.frames"),  # no such column
        (HEADER.pack(0, MAX_PAYLOAD + 1), "job.frames"),
        (HEADER.pack(0, 0), "job.frames"),
        (frame(0, b"x")[:-1], "job.frames"),
        (struct.pack(">B", 0), "job.frames"),
        (frame(0, b"x" * MAX_PAYLOAD) * 4, "job.frames"),  # above the cap
    ],
)
def test_an_output_that_no_honest_worker_makes_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch, output: bytes, code: str
) -> None:
    limits = replace(site.enclave.limits, import_bytes=1 << 20)

    def hostile(enclave: object, task: Task, descriptors: list[int], profile: JailProfile | None = None) -> TaskAnswer:
        try:
            os.write(descriptors[2], output[: 1 << 15])
            for start in range(1 << 15, len(output), 1 << 15):
                os.write(descriptors[2], output[start : start + (1 << 15)])
        except BrokenPipeError:
            pass
        while os.read(descriptors[0], 1 << 16):
            pass
        return IntakeAnswer(accepted=1, rejected=0, rejections=(), entities=1)

    monkeypatch.setattr(type(site.enclave), "work", hostile)
    with pytest.raises(Failed) as caught:
        with_enclave(site, limits=limits).import_csv(KEYED, HEAD + b"a,1\n")
    assert caught.value.code == code


@pytest.mark.parametrize(
    "declined",
    [
        Declined(rule="import.rejected", facts={}),
        Declined(rule="p17 earns 4000", facts={}),
        Declined(rule="import.format", facts={"what": "p17 earns 4000"}),
        Declined(rule="import.header", facts={}),
        Declined(rule="import.header", facts={"column": "p17"}),
        Declined(rule="import.header", facts={"column": "#4"}),
        Declined(rule="import.header", facts={"column": "#0"}),
        Declined(rule="import.header", facts={"column": "id", "rule": "x"}),
    ],
)
def test_a_worker_declines_in_no_words_of_its_own(
    site: Site, monkeypatch: pytest.MonkeyPatch, declined: Declined
) -> None:
    caught = how_it_ends(site, monkeypatch, Intake, declined, HEAD + b"a,1\n")
    assert isinstance(caught, Failed)
    assert caught.code == "job.answer"


@pytest.mark.parametrize("column", ["id", "n", "#1", "#3"])
def test_a_worker_may_name_a_column_of_the_catalogue_or_its_place(
    site: Site, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    declined = Declined(rule="import.header", facts={"column": column})
    caught = how_it_ends(site, monkeypatch, Intake, declined, HEAD + b"a,1\n")
    assert isinstance(caught, Refused)
    assert (caught.rule, caught.facts) == ("import.header", {"column": column})


def test_who_unpacks_knows_no_header(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    declined = Declined(rule="import.header", facts={"column": "id"})
    caught = how_it_ends(site, monkeypatch, Unpacking, declined, gzip.compress(HEAD + b"a,1\n"))
    assert isinstance(caught, Failed)
    assert caught.code == "job.answer"


def how_it_ends(
    site: Site, monkeypatch: pytest.MonkeyPatch, kind: type[Task], said: TaskAnswer, content: bytes
) -> YuneiError:
    """The error of an import whose worker of that kind answers so once it has done its honest work."""
    work = type(site.enclave).work

    def hostile(enclave: Enclave, task: Task, descriptors: list[int], profile: JailProfile | None = None) -> TaskAnswer:
        honest = work(enclave, task, descriptors, profile)
        return said if isinstance(task, kind) else honest

    monkeypatch.setattr(type(site.enclave), "work", hostile)
    with pytest.raises(YuneiError) as caught:
        site.import_csv(KEYED, content)
    return caught.value


def test_a_worker_that_does_not_read_to_the_end_publishes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def lazy(enclave: object, task: Task, descriptors: list[int], profile: JailProfile | None = None) -> TaskAnswer:
        return IntakeAnswer(accepted=1, rejected=0, rejections=(), entities=1)

    monkeypatch.setattr(type(site.enclave), "work", lazy)
    for content in (MANY, HEAD + b"a,1\n"):
        with pytest.raises(Refused) as caught:
            site.import_csv(KEYED, content)
        assert caught.value.rule == "import.format"


def test_a_worker_that_dies_on_the_way_ends_the_import(site: Site) -> None:
    short = JailProfile(memory_mb=site.enclave.limits.import_profile.memory_mb, wall_seconds=0)
    hasty = with_enclave(site, limits=replace(site.enclave.limits, import_profile=short))
    with pytest.raises(Failed) as caught:
        hasty.import_csv(KEYED, MANY)
    assert caught.value.code == "job.deadline"


def test_a_full_disk_ends_the_import(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Draft, index: int, data: bytes) -> None:
        raise Failed("rawdata.write")

    monkeypatch.setattr(Draft, "write", full)
    with pytest.raises(Failed) as caught:
        site.import_csv(KEYED, MANY)
    assert caught.value.code == "rawdata.write"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_pipes_that_cannot_be_handed_over_are_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    """What stays open is seen by the fixture above."""

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPERM, "not yours")

    with monkeypatch.context() as patched, pytest.raises(PermissionError):
        patched.setattr(os, "geteuid", lambda: 0)
        patched.setattr(os, "fchown", refuse)
        site.import_csv(KEYED, pack(HEAD + b"a,1\n"))


def test_duplicates_beyond_any_file_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enclave_runner.supervisor.stream.MAX_DUPLICATES", 8)
    with pytest.raises(Failed) as caught:
        site.import_csv(KEYED, HEAD + b"a,1\na,2\na,3\nb,4\n" + b"".join(b"c%d,1\n" % n for n in range(9)))
    assert caught.value.code == "job.frames"


@pytest.mark.slow
def test_a_file_far_larger_than_the_workers_memory_comes_in(site: Site, tmp_path: Path) -> None:
    """The kernel holds the worker below its bound; the supervisor's own growth is measured."""
    file, rows = tmp_path / "large.csv", 6_000_000
    with duckdb.connect() as connection:
        text = "printf('%018d', range) AS id, range % 1000 AS n, md5(range::VARCHAR) || repeat('x', 140) AS note"
        connection.execute(f"COPY (SELECT {text} FROM range({rows})) TO '{file}' (HEADER)")
    assert file.stat().st_size > 1100 << 20
    profile = replace(site.enclave.limits.import_profile, memory_mb=768)
    large = with_enclave(site, limits=replace(site.enclave.limits, import_profile=profile))
    columns = (*KEYED.columns, column("note", ColumnType.TEXT))
    spec = replace(KEYED, dataset_id="large", columns=columns, population_cap=10**8)
    order = ImportData(spec=sign_spec(site.bureau, spec), format=FileFormat.CSV)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with file.open("rb") as handed:
        report = import_data(large.enclave, order, handed.fileno())
    assert (report.accepted, report.rejected) == (rows, 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10
