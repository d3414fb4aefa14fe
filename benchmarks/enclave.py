"""What the jail, the extract and the output gate cost, and what they leave behind.

`make bench-enclave`. Every figure stands beside a peer or a floor of the same run: a Python process that imports DuckDB
under bubblewrap, and plain DuckDB on the same extract. `--rows` and `--jobs` make it smaller.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import duckdb

from benchmarks.office import Office, ask, open_office
from benchmarks.report import Check, interleaved, publish
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.job import Predicate, QueryJob, VerificationJob
from enclave_runner.contract.privacy import Budget
from enclave_runner.jail.launcher import MemoryFile, Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Done, Gating, Rehearsal, Vectors
from enclave_runner.supervisor.execute import aggregation_of, weighted_extract
from enclave_runner.supervisor.prepare import PreparedQuery, prepare_query

START_ROUNDS, ROUNDS = 15, 5
BURSTS, BURST_WIDTH = 25, 8
NOBODY = "65534"
CITIES = tuple(f"c{number}" for number in range(20))
SMALL_ROWS = 2_000
COLUMNS = ("age", "income", "city")
SQL = "SELECT city, COUNT(*) AS n, SUM(income) AS paid, SUM(age) AS years FROM people WHERE age >= 18 GROUP BY city"


def spec_of(name: str) -> DatasetSpec:
    """A table of people, twelve columns of which three are granted."""
    return DatasetSpec(
        dataset_id=name,
        columns=(
            Column(name="id", title="id", type=ColumnType.TEXT, grade=3),
            Column(name="age", title="age", type=ColumnType.INTEGER, bounds=(0, 120)),
            Column(name="income", title="income", type=ColumnType.INTEGER, bounds=(0, 1_000_000)),
            Column(name="city", title="city", type=ColumnType.TEXT, domain=CITIES),
            *(Column(name=f"x{n}", title=f"x{n}", type=ColumnType.INTEGER, bounds=(0, 10**9)) for n in range(8)),
        ),
        entity_set="resident",
        entity_column="id",
        key_kind=KeyKind.OPAQUE,
        population_cap=100_000_000,
        unique=True,
        rows_per_entity=1,
    )


def write_people(path: Path, rows: int) -> None:
    """A CSV of made-up people."""
    others = ", ".join(f"(hash(i, {n}) % 1000000000)::BIGINT AS x{n}" for n in range(8))
    duckdb.execute(
        f"COPY (SELECT 'p' || i AS id, i % 100 AS age, (hash(i) % 1000000)::BIGINT AS income, "
        f"'c' || (hash(i) % 20) AS city, {others} FROM range({rows}) t(i)) TO '{path}' (HEADER)"
    )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--jobs", type=int, default=5_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="yunei-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with open_office(folder) as office:
            write_people(folder / "people.csv", SMALL_ROWS)
            office.import_csv(spec_of("people"), folder / "people.csv")
            checks = _starts(office)
            checks += [_bursts(office), _growth(office, arguments.jobs)]
            write_people(folder / "people.csv", arguments.rows)
            _say(f"importing {arguments.rows:,} rows")
            office.import_csv(spec_of("people"), folder / "people.csv")
            checks += _large(office, folder)
    publish("enclave", checks)


def _say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


# Starting a job


def _starts(office: Office) -> list[Check]:
    """Cold start, dispatch to a waiting worker, and a whole ticket, beside a DuckDB import under bubblewrap."""
    _say("starting jobs")
    peer = "python -c 'import duckdb' under bubblewrap"
    spec, job = spec_of("people"), QueryJob(sql=SQL, budget=Budget(epsilon="0.01"))
    grant = office.grant(spec, COLUMNS)
    with Zygote() as cold, Zygote() as warm:
        profile = office.enclave.limits.job_profile
        warm.keep_ready(profile, START_ROUNDS)
        _empty_job(cold, profile)
        actions: list[Callable[[], object]] = [
            lambda: _empty_job(cold, profile),
            lambda: office.run(spec, grant, job),
            _bubblewrap,
        ]
        if shutil.which("bwrap") is None:
            actions.pop()
            note = "bubblewrap is not installed: apt-get install bubblewrap"
            return [
                Check("job_start_ratio", None, "x", ">= 6", peer, note),
                Check("ticket_to_receipt_ratio", None, "x", ">= 3", peer, note),
                Check("warm_dispatch_ratio", None, "x", ">= 50", peer, note),
            ]
        start, ticket, floor = interleaved(START_ROUNDS, *actions)
        time.sleep(2)  # until all wait
        dispatch = median(_dispatch(warm, profile) for _ in range(START_ROUNDS))
    return [
        Check("job_start_ratio", floor / start, "x", ">= 6", peer, "a query on an empty table, from fork to reaped"),
        Check(
            "ticket_to_receipt_ratio",
            floor / ticket,
            "x",
            ">= 3",
            peer,
            "planned at its quote; all that follows",
        ),
        Check(
            "warm_dispatch_ratio", floor / dispatch, "x", ">= 50", peer, "order to answer, from a worker that waited"
        ),
    ]


def _empty_job(zygote: Zygote, profile: JailProfile) -> None:
    """A query over no rows: DuckDB opened, asked and closed in a fresh jail, whose end is waited for."""
    zygote.run(
        encode(Rehearsal(sql="SELECT sum(age) FROM extract", columns=(("age", ColumnType.INTEGER),))), [], profile
    )


def _dispatch(zygote: Zygote, profile: JailProfile) -> float:
    """Seconds from the order to the answer of a waiting worker that has nothing to do but read its task."""
    with MemoryFile(encode(Done())) as said:
        began = time.perf_counter()
        zygote.run(encode(Gating()), [said.descriptor], profile)
        return time.perf_counter() - began


def _bubblewrap() -> None:
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    # Never as root: a bubblewrap of root's is no sandbox.
    drop = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"] if os.geteuid() == 0 else []
    subprocess.run([*drop, *command, sys.executable, "-c", "import duckdb"], check=True, stderr=subprocess.DEVNULL)


# What is left behind


@dataclass(frozen=True)
class Held:
    """What the enclave's processes hold."""

    processes: int
    descriptors: int
    mounts: int
    groups: int

    def beyond(self, before: Held) -> int:
        """How much more than before, over all kinds."""
        pairs = zip(vars(self).values(), vars(before).values(), strict=True)
        return sum(max(0, mine - theirs) for mine, theirs in pairs)


def _held(zygote: int) -> Held:
    own = os.getpid()
    processes = [
        pid
        for pid in map(int, filter(str.isdigit, (path.name for path in Path("/proc").iterdir())))
        if _descends(pid, own)
    ]
    descriptors = sum(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in (own, zygote))
    groups = sum(1 for _ in Path("/sys/fs/cgroup").glob("**/yunei-*")) if Path("/sys/fs/cgroup").is_dir() else 0
    return Held(len(processes), descriptors, len(Path("/proc/self/mounts").read_text().splitlines()), groups)


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        pid = int(stat.rsplit(")", 1)[1].split()[1])
    return False


def _bursts(office: Office) -> Check:
    """200 jobs, eight at a time."""
    _say("bursts of jobs")
    jobs = BURSTS * BURST_WIDTH
    office_job = _question_runner(office)
    zygote = office.enclave.zygote.pid
    for _ in range(BURST_WIDTH):
        office_job(0)
    time.sleep(1)
    before = _held(zygote)
    with ThreadPoolExecutor(BURST_WIDTH) as pool:
        for _ in range(BURSTS):
            list(pool.map(office_job, range(BURST_WIDTH)))
    office_job(0)
    time.sleep(1)
    leaks = _held(zygote).beyond(before)
    note = (
        f"{jobs} jobs in bursts of {BURST_WIDTH}: processes, descriptors, mounts and control groups, before and after"
    )
    return Check("burst_leaks", leaks, "", "<= 0", "the same counts before", note)


def _question_runner(office: Office) -> Callable[[int], None]:
    spec = spec_of("people")
    grant = office.grant(spec, COLUMNS)
    job = VerificationJob(dataset_id="people", attribute="age", predicate=Predicate.AT_LEAST)
    return lambda number: office.run(spec, grant, job, ask(f"p{number}", "18"))


def _growth(office: Office, jobs: int) -> Check:
    """Resident memory of the supervisor over many jobs."""
    _say(f"{jobs:,} jobs in a row")
    run = _question_runner(office)
    for number in range(min(500, jobs)):
        run(number % SMALL_ROWS)
    gc.collect()
    before = _resident_mib()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: run(number % SMALL_ROWS), range(jobs)))
    gc.collect()
    growth = _resident_mib() - before
    note = f"{jobs:,} jobs after a warm-up of 500; MiB of resident memory"
    return Check("supervisor_rss_growth", growth, "MiB", "<= 4", f"{before:.0f} MiB before", note)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


# Large extracts


def _large(office: Office, folder: Path) -> list[Check]:
    """Building an extract beside CREATE TABLE AS; the grouped aggregate in the jail beside plain DuckDB."""
    _say("building extracts")
    prepared = _prepared(office)
    enclave = office.enclave
    parquet, plain = folder / "people.parquet", folder / "plain.db"
    duckdb.execute(f"COPY (FROM '{folder / 'people.csv'}') TO '{parquet}' (FORMAT parquet, COMPRESSION zstd)")

    def build() -> None:
        with weighted_extract(enclave, prepared.held, prepared.plan):
            pass

    mine, floor = interleaved(ROUNDS, build, lambda: _create_table(parquet, plain))
    note = "decrypted, jailed, sealed; from Parquet of the same rows"
    checks = [Check("extract_build_ratio", mine / floor, "x", "<= 3", "CREATE TABLE AS into a DuckDB file", note)]

    _say("aggregating")
    with weighted_extract(enclave, prepared.held, prepared.plan) as extract:
        plain.unlink()
        with plain.open("wb") as file:
            file.write(os.pread(extract, os.fstat(extract).st_size, 0))
        task = aggregation_of(prepared.plan)

        def jailed() -> None:
            assert isinstance(enclave.work(task, [extract]), Vectors)

        mine, floor = interleaved(2 * ROUNDS + 1, jailed, lambda: _aggregate(plain, task.sql))
    note = "dispatch, query, exact vector and output gate, all counted"
    checks.append(Check("steady_state_ratio", mine / floor, "x", "<= 1.10", "plain DuckDB on the same extract", note))
    return checks


def _prepared(office: Office) -> PreparedQuery:
    grant = decode(office.grant(spec_of("people"), COLUMNS).payload, Grant)
    return prepare_query(office.enclave, grant, QueryJob(sql=SQL, budget=Budget(epsilon="0.01")))


def _create_table(parquet: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.execute(f"ATTACH '{target}' AS file")
        connection.execute(f"CREATE TABLE file.extract AS SELECT {', '.join(COLUMNS)} FROM read_parquet('{parquet}')")


def _aggregate(path: Path, sql: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.execute(f"ATTACH '{path}' AS file (READ_ONLY)")
        connection.execute("CREATE VIEW extract AS FROM file.stored")
        connection.execute(sql).fetchall()


if __name__ == "__main__":
    main()
