"""A full disk: what it keeps from being written is told, and nothing wrong is left when there is room again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Outcome
from enclave_runner.jail.profile import JailProfile
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor import run
from tests.support.enclave_home import PEOPLE, PEOPLE_CSV, Bureau, make_bureau, query, running_site, with_enclave
from tests.support.ledgers import check_log
from tests.support.receipts import altered
from tests.support.refusals import failed_at

DISK_MB = 4


class Disk:
    """A small file system that can be filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / "ballast"

    def fill(self) -> None:
        """Leave no room for one more page."""
        with self._ballast.open("wb", 0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A tmpfs of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0700", "yunei-test", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("this host lets nobody mount a small file system")
    yield Disk(folder)
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def bureau(disk: Disk) -> Bureau:
    """A home on that disk, with `people` in it."""
    bureau = make_bureau(disk.folder)
    with running_site(bureau) as site:
        site.import_csv(PEOPLE, PEOPLE_CSV)
    return bureau


def raw_names(bureau: Bureau) -> set[str]:
    return {path.name for path in bureau.home.rawdata.iterdir()}


def test_a_fault_that_cannot_be_logged_still_ends_in_a_receipt(tmp_path: Path) -> None:
    bureau = make_bureau(tmp_path)
    with running_site(bureau) as site:
        site.import_csv(PEOPLE, PEOPLE_CSV)
        bureau.home.log.unlink(missing_ok=True)
        bureau.home.log.symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space"), bureau.home.log.open("a") as log:
            log.write("control: this log takes nothing")
        hasty = altered(site.enclave.limits, job_profile=JailProfile(wall_seconds=0, memory_mb=3072))
        receipt = with_enclave(site, limits=hasty).order(query())
        assert (receipt.outcome, receipt.release_sha256) == (Outcome.FAILED, None)
        assert receipt.fault is not None
        assert site.spent() == sum(loss.pico_rho for loss in receipt.losses) > 0
        assert site.enclave.ledger.open_tickets() == ()
        assert site.order(query()).outcome is Outcome.RELEASED
        bureau.home.log.unlink()
        site.enclave.note_fault(Failed("job.deadline"), "ticket-1")
        assert json.loads(bureau.home.log.read_text())["code"] == "job.deadline"


def test_an_import_that_finds_no_room_leaves_no_half_version(bureau: Bureau, disk: Disk) -> None:
    before = raw_names(bureau)
    with running_site(bureau) as site:
        disk.fill()
        with failed_at("rawdata.write"):
            site.import_csv(PEOPLE, PEOPLE_CSV)
        assert raw_names(bureau) == before
        disk.free()
        assert site.import_csv(PEOPLE, PEOPLE_CSV).accepted == 200
        assert len(raw_names(bureau)) == 2
        assert site.order(query()).outcome is Outcome.RELEASED


def test_a_version_that_could_not_be_put_on_record_is_none(
    bureau: Bureau, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last byte goes between the publication and the record."""
    publish = RawStore.publish

    def publish_and_fill(*arguments: object) -> str:
        name: str = publish(*arguments)  # type: ignore[arg-type]
        disk.fill()
        return name

    (before,) = raw_names(bureau)
    with running_site(bureau) as site:
        with monkeypatch.context() as patched, failed_at("ledger.write"):
            patched.setattr(RawStore, "publish", publish_and_fill)
            site.import_csv(PEOPLE, PEOPLE_CSV)
        disk.free()
        assert [held.file for held in site.enclave.holdings.newest()] == [before]
        assert site.order(query()).outcome is Outcome.RELEASED
    with running_site(bureau) as site:
        assert site.enclave.holdings.files() == {before}
        (aside,) = raw_names(bureau) - {before}
        assert aside.startswith(".aside-people@v2-")
        assert site.import_csv(PEOPLE, PEOPLE_CSV).version.startswith("v2-")


def test_a_job_whose_end_cannot_be_written_is_closed_by_the_next_start(
    bureau: Bureau, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = run.execute

    def execute_and_fill(*arguments: object) -> object:
        release = execute(*arguments)  # type: ignore[arg-type]
        disk.fill()
        return release

    with running_site(bureau) as site:
        ticket = site.ticket(query())
        with monkeypatch.context() as patched, failed_at("ledger.write"):
            patched.setattr(run, "execute", execute_and_fill)
            site.run(ticket)
        reserved = site.spent()
        assert reserved > 0
        with pytest.raises(Failed):
            site.order(query())  # nothing is opened without room for it
        assert len(site.enclave.ledger.open_tickets()) == 1
        disk.free()
        assert site.order(query()).outcome is Outcome.RELEASED
    with running_site(bureau) as site:
        assert run.recover_open_tickets(site.enclave) == 1
        receipt = site.receipt(site.enclave.ledger.settlement(ticket.ticket_id))
        assert (receipt.outcome, receipt.release_sha256) == (Outcome.FAILED, None)
        assert sum(loss.pico_rho for loss in receipt.losses) == reserved
        assert check_log(site.enclave.ledger, site.enclave.key) == 2
        assert site.spent() == 2 * reserved
        assert site.order(query()).outcome is Outcome.RELEASED
