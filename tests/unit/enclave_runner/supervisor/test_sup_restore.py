"""Backup and restore of a home: whole or not at all, of this enclave, and never behind what others have seen."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from enclave_runner.contract.archive import ArchiveWriter, BackupKey, recipient_pem, write_new
from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.evidence import RESTORATION, Exchange, Restoration, Seen, write_evidence
from enclave_runner.contract.folder import workspace
from enclave_runner.contract.signing import KeyFile, seal, unseal
from enclave_runner.contract.ticket import PURPOSE, Ticket
from enclave_runner.supervisor.backup import WORK, back_up
from enclave_runner.supervisor.home import EnclaveHome, lock_home
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.restore import Proof, restore
from tests.support.backups import (
    BACKUP_KEY,
    LABEL,
    RELEASE,
    Custody,
    archive_of,
    bring_back,
    make_custody,
    open_ledger,
    receipt_for,
    spent,
)
from tests.support.enclave_process import ROOT, command
from tests.support.ledgers import lost
from tests.support.receipts import altered

LOSS = Proof(accepts_loss=True)


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    """Two orders, one of them with a loss."""
    made = make_custody(tmp_path)
    with open_ledger(made.home) as ledger:
        made.order(ledger, "released", 1000)
        made.order(ledger, "refused")
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("ledger.db")
    }


def code_of(archive: bytes, folder: Path, proof: Proof = LOSS, **others: object) -> str:
    with pytest.raises((Failed, Refused)) as caught:
        bring_back(archive, folder, proof, **others)  # type: ignore[arg-type]
    assert not folder.exists()
    assert not list(folder.parent.glob(".*restoring*"))
    return caught.value.code if isinstance(caught.value, Failed) else caught.value.rule


# Backup


def test_every_file_comes_back_as_it_was(custody: Custody, tmp_path: Path) -> None:
    raw = custody.home.folder / "raw" / "people@v1"
    raw.mkdir(parents=True)
    (raw / "0").write_bytes(b"\x01" * (3 << 20))
    (custody.home.folder / "raw" / ".draft-x").mkdir()
    (custody.home.folder / "raw" / ".draft-x" / "0").write_bytes(b"half")
    before = contents(custody.home.folder)
    home, report = bring_back(archive_of(custody.home), tmp_path / "new", Proof(checkpoint=custody.note))
    del before["raw/.draft-x/0"]
    assert contents(home.folder) == before
    assert (report.label, report.size, report.is_lossy) == (LABEL, 2, False)
    assert {path.stat().st_mode & 0o077 for path in home.folder.rglob("*")} == {0}


def test_nothing_in_the_archive_stands_in_clear(custody: Custody) -> None:
    archive = archive_of(custody.home)
    for part in contents(custody.home.folder).values():
        assert part[:40] not in archive
    assert b"resident" not in archive


def test_a_backup_leaves_nothing_behind_and_keeps_a_start_waiting(custody: Custody) -> None:
    seen: list[str] = []

    def try_to_start() -> None:
        with pytest.raises(Failed) as caught:
            lock_home(custody.home)
        seen.append(caught.value.code)

    before = contents(custody.home.folder)
    back_up(custody.home, io.BytesIO(), BACKUP_KEY.public, LABEL, try_to_start)
    assert (seen, contents(custody.home.folder)) == (["home.busy"], before)


def test_a_running_enclave_s_lock_is_no_hindrance_but_another_backup_is(custody: Custody) -> None:
    lock = lock_home(custody.home)
    try:
        assert archive_of(custody.home)
    finally:
        os.close(lock)
    with workspace(custody.home.folder / WORK), pytest.raises(Failed, match=r"workspace\.busy"):
        archive_of(custody.home)


def test_a_backup_beside_a_working_enclave_is_of_one_moment(custody: Custody, tmp_path: Path) -> None:
    """A real writer at work: whatever moment it was, log, nonces and odometer of the copy fit each other."""
    stop = threading.Event()

    def work() -> None:
        with open_ledger(custody.home) as ledger:
            while not stop.is_set():
                custody.order(ledger, "released", 1)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        archives = [archive_of(custody.home) for _ in range(3)]
    finally:
        stop.set()
        worker.join()
    evidence = custody.evidence(tmp_path / "seen")
    for number, archive in enumerate(archives):
        home, _ = bring_back(archive, tmp_path / f"new{number}", Proof(receipts=evidence))
        with open_ledger(home) as ledger, open_ledger(custody.home) as old:
            assert (ledger.head(), spent(ledger)) == (old.head(), spent(old))


def test_keys_that_change_meanwhile_end_the_backup(custody: Custody) -> None:
    path = custody.home.folder / "raw" / "manifest"
    path.parent.mkdir()
    path.write_text("one")

    class Sink(io.BytesIO):
        def write(self, data: object) -> int:
            if len(data) > 1 << 20:  # type: ignore[arg-type]
                path.write_text("another")
            return super().write(data)  # type: ignore[arg-type]

    (custody.home.folder / "a-large-file").write_bytes(bytes(3 << 20))  # so that something is written before the end
    with pytest.raises(Failed, match=r"backup\.changed"):
        back_up(custody.home, Sink(), BACKUP_KEY.public, LABEL, lambda: None)


def test_there_is_no_backup_of_no_home(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"home\.unreadable"):
        archive_of(EnclaveHome(tmp_path / "nowhere"))


# What is refused


def test_a_used_place_is_never_written_over(custody: Custody, tmp_path: Path) -> None:
    archive, before = archive_of(custody.home), contents(custody.home.folder)
    with pytest.raises(Failed, match=r"home\.exists"):
        bring_back(archive, custody.home.folder, LOSS)
    assert contents(custody.home.folder) == before
    (tmp_path / "empty").mkdir()
    bring_back(archive, tmp_path / "empty", LOSS)


def test_bad_archives_make_nothing(custody: Custody, tmp_path: Path) -> None:
    archive, new = archive_of(custody.home), tmp_path / "new"
    assert code_of(archive, new, key=BackupKey(X25519PrivateKey.generate())) == "backup.key"
    for left in (0, 10, 500, len(archive) // 2, len(archive) - 1):
        assert code_of(archive[:left], new) == "backup.damaged"
    for place in range(600, len(archive), len(archive) // 7):
        changed = bytearray(archive)
        changed[place] ^= 1
        assert code_of(bytes(changed), new) == "backup.damaged"
    assert code_of(archive, new, label="cd" * 16) == "backup.parts"
    sink = io.BytesIO()
    writer = ArchiveWriter(sink, BACKUP_KEY.public, LABEL, "bureau")
    writer.finish()
    assert code_of(sink.getvalue(), new) == "backup.parts"


def test_another_enclave_s_archive_does_not_pass_for_this_one_s(custody: Custody, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = archive_of(make_custody(tmp_path / "other").home)
    assert code_of(other, tmp_path / "new", Proof(checkpoint=custody.note)) == "checkpoint.invalid"
    evidence = Proof(receipts=custody.evidence(tmp_path / "seen"))
    assert code_of(other, tmp_path / "new", evidence) == "signature.invalid"


def test_without_proof_nothing_is_restored(custody: Custody, tmp_path: Path) -> None:
    assert code_of(archive_of(custody.home), tmp_path / "new", Proof()) == "restore.unproven"


def test_a_log_that_was_edited_before_the_backup_is_found(custody: Custody, tmp_path: Path) -> None:
    with closing(sqlite3.connect(custody.home.ledger)) as database:
        database.execute("DROP TRIGGER receipts_fixed")
        database.execute("UPDATE receipts SET signed = replace(signed, 'A', 'B') WHERE sequence = 0")
        database.commit()
    assert code_of(archive_of(custody.home), tmp_path / "new") in ("ledger.damaged", "wire.malformed")


# Evidence


def test_a_missing_receipt_leaves_a_gap(custody: Custody, tmp_path: Path) -> None:
    archive = archive_of(custody.home)
    with open_ledger(custody.home) as ledger:
        for _ in range(3):
            custody.order(ledger, "released", 5)
    custody.exchanges.pop(3)
    evidence = custody.evidence(tmp_path / "seen")
    assert code_of(archive, tmp_path / "new", Proof(receipts=evidence)) == "restore.gap"
    home, report = bring_back(archive, tmp_path / "new", Proof(receipts=evidence, accepts_loss=True))
    assert (report.is_lossy, report.replayed) == (True, 0)
    with open_ledger(home) as ledger:
        assert spent(ledger)["resident"] >= 1000


def test_evidence_that_ends_early_is_behind_its_own_checkpoint(custody: Custody, tmp_path: Path) -> None:
    archive = archive_of(custody.home)
    with open_ledger(custody.home) as ledger:
        for _ in range(2):
            custody.order(ledger, "released", 5)
    custody.exchanges.pop()
    evidence = Proof(receipts=custody.evidence(tmp_path / "seen"))
    assert code_of(archive, tmp_path / "new", evidence) == "restore.behind"


def test_forged_evidence_is_not_believed(custody: Custody, tmp_path: Path) -> None:
    archive = archive_of(custody.home)
    with open_ledger(custody.home) as ledger:
        custody.order(ledger, "released", 5)
    honest = custody.exchanges[-1]
    stranger = KeyFile.create(tmp_path / "stranger.key")
    ticket = decode(honest.ticket.payload, Ticket)
    assert honest.receipt is not None
    other_ticket = seal(altered(ticket, ticket_id="another"), PURPOSE, custody.bureau.control)
    for forged, code in (
        (altered(honest, receipt=altered(honest.receipt, signature=bytes(64))), "signature.invalid"),
        (altered(honest, ticket=seal(ticket, PURPOSE, stranger)), "signature.invalid"),
        (altered(honest, ticket=other_ticket), "restore.gap"),
        (altered(honest, release=b"{}"), "restore.gap"),
        (altered(honest, release=None), "restore.gap"),
        (Exchange(ticket=seal(ticket, PURPOSE, stranger), receipt=None, release=None), "signature.invalid"),
    ):
        path = tmp_path / "forged"
        path.unlink(missing_ok=True)
        write_evidence(path, Seen(checkpoint=custody.note), [forged])  # type: ignore[list-item]
        assert code_of(archive, tmp_path / "new", Proof(receipts=path)) == code
    for text in (b"", b"{}\n", b'{"checkpoint":null}\n{}\n'):
        (tmp_path / "forged").write_bytes(text)
        assert code_of(archive, tmp_path / "new", Proof(receipts=tmp_path / "forged")) == "wire.malformed"


def test_a_ticket_of_unknown_end_counts_for_every_set_it_may_have_touched(custody: Custody, tmp_path: Path) -> None:
    """Its dataset came after the backup: of which entities it tells is not known here."""
    archive = archive_of(custody.home)
    with open_ledger(custody.home) as ledger:
        ticket = custody.order(ledger, "open", 5)
    later = seal(altered(ticket, ticket_id="later", data_versions={"new": "v1"}), PURPOSE, custody.bureau.control)
    custody.exchanges.append(Exchange(ticket=later, receipt=None, release=None))
    home, report = bring_back(archive, tmp_path / "new", Proof(receipts=custody.evidence(tmp_path / "seen")))
    assert report.reopened == 2
    with open_ledger(home) as ledger:
        shown = spent(ledger)
        assert shown["resident"] == 1000 + 2 * shown["enterprise"] > 1000
        assert len(ledger.open_tickets()) == 2


# After it


def test_older_tickets_are_void_and_the_statement_stays(custody: Custody, tmp_path: Path) -> None:
    before = utc_now()
    home, report = bring_back(archive_of(custody.home), tmp_path / "new", Proof(checkpoint=custody.note))
    with open_ledger(home) as ledger:
        not_before = ledger.not_before()
        assert not_before is not None
        assert before < not_before == report.not_before <= utc_now() + timedelta(seconds=2)
        (signed,) = ledger.restorations()
        key = KeyFile.load(home.receipt_key).public_key
        said = unseal(signed, RESTORATION, (key,), Restoration)
        assert (said.size, said.root, said.is_lossy) == (2, ledger.head().root.hex(), False)
    with closing(sqlite3.connect(home.ledger)) as database, pytest.raises(sqlite3.DatabaseError):
        database.execute("DELETE FROM restorations")


def test_a_clock_that_was_put_back_voids_what_was_issued_later(custody: Custody, tmp_path: Path) -> None:
    past = utc_now() - timedelta(days=30)
    moments = iter((past, past + timedelta(seconds=2)))
    home = EnclaveHome(tmp_path / "new")
    source = io.BytesIO(archive_of(custody.home))
    report = restore(home, source, BACKUP_KEY, Proof(checkpoint=custody.note), LABEL, lambda: next(moments))
    assert report.not_before > max(ticket.issued_at for ticket, _, _ in custody.tickets[:1])


def test_an_order_that_was_open_in_the_backup_loses_what_its_receipt_says(custody: Custody, tmp_path: Path) -> None:
    with open_ledger(custody.home) as ledger:
        ticket = custody.order(ledger, "open", 300)
        reserved = spent(ledger)["resident"]
    archive, (_, signed, grant) = archive_of(custody.home), custody.tickets[-1]
    with open_ledger(custody.home) as ledger:
        make = receipt_for(ticket, grant, "released")
        settled = ledger.close_ticket(ticket.ticket_id, make, RELEASE, (lost(100),))
        assert spent(ledger)["resident"] == reserved - 200
    custody.note = settled.checkpoint
    custody.exchanges[-1] = Exchange(ticket=signed, receipt=settled.receipt, release=settled.release)
    home, _ = bring_back(archive, tmp_path / "new", Proof(receipts=custody.evidence(tmp_path / "seen")))
    with open_ledger(home) as ledger:
        assert spent(ledger)["resident"] == reserved - 200
        assert ledger.settlement(ticket.ticket_id) == settled
        assert ledger.open_tickets() == ()


@pytest.mark.parametrize("asked", [{"pico_rho": 1}, {"pico_rho": 0, "atto_delta": 1}])
def test_what_was_lost_stays_spent_for_sets_that_nobody_has_met_yet(
    custody: Custody, tmp_path: Path, asked: dict[str, int]
) -> None:
    home, _ = bring_back(archive_of(custody.home), tmp_path / "new", LOSS)
    with open_ledger(home) as ledger:
        assert "*" not in spent(ledger)
        ticket, signed, grant = custody.tickets[0]
        fresh = altered(ticket, ticket_id="fresh")
        (loss,) = grant.budgets
        wide = altered(grant, budgets=(altered(loss, entity_set="vehicle", atto_delta=1),))
        vehicle = (altered(loss, entity_set="vehicle", **asked),)
        with pytest.raises(Refused, match=r"odometer\.spent"):
            ledger.open_ticket(fresh, signed, wide, vehicle, utc_now())  # type: ignore[arg-type]
    again, _ = bring_back(archive_of(home), tmp_path / "again", LOSS)
    with open_ledger(again) as ledger, pytest.raises(Refused, match=r"odometer\.spent"):
        ledger.open_ticket(fresh, signed, wide, vehicle, utc_now())  # type: ignore[arg-type]


# Killed


def start(home: Path, *arguments: str, **streams: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*command(*arguments), "--home", str(home)], cwd=ROOT, **streams)  # type: ignore[call-overload,no-any-return]


@pytest.mark.slow
def test_killed_at_any_moment_there_is_a_whole_home_or_none(custody: Custody, tmp_path: Path) -> None:
    key, public = tmp_path / "key", tmp_path / "key.pub"
    write_new(public, recipient_pem(BackupKey.create(key).public))
    (custody.home.folder / "raw").mkdir()
    (custody.home.folder / "raw" / "column").write_bytes(bytes(64 << 20))
    note = tmp_path / "note"
    note.write_text(str(custody.note))
    file, new, before = tmp_path / "file", tmp_path / "new", contents(custody.home.folder)
    made = whole = 0
    for number in range(14):
        with file.open("wb") as out:
            maker = start(custody.home.folder, "backup", "--recipient", str(public), "--label", LABEL, stdout=out)
            time.sleep(0.1 * number) if number < 12 else maker.wait()
            maker.kill()
            made += maker.wait() == 0
        assert contents(custody.home.folder).keys() - before.keys() <= {".backup/manifest.json"}
    assert made >= 2
    for number in range(16):
        with file.open("rb") as source, (tmp_path / "errors").open("wb") as errors:
            options = ("--key", str(key), "--checkpoint", str(note))
            maker = start(new, "restore", *options, stdin=source, stdout=errors, stderr=errors)
            time.sleep(0.1 * number) if number < 14 else maker.wait()
            maker.kill()
            maker.wait()
        if new.exists():
            assert contents(new) == before
            whole += 1
            new.rename(tmp_path / f"whole{number}")
    assert whole >= 2
    assert not list(tmp_path.glob(".new.restoring"))
