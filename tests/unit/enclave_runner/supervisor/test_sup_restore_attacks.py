"""A restore that is lied to: by an archive of somebody else's, by evidence that shows nothing, by forgotten uses."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from enclave_runner.contract.archive import BackupKey
from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.merkle import EMPTY_ROOT, Checkpoint, sign_checkpoint
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.rawdata.kms import KmsChoice, KmsSettings, TokenSettings
from enclave_runner.supervisor import backup
from enclave_runner.supervisor.backup import back_up
from enclave_runner.supervisor.home import EnclaveHome
from enclave_runner.supervisor.ledger import RECEIPT_ORIGIN, utc_now
from enclave_runner.supervisor.restore import Proof
from tests.support.backups import LABEL, Custody, archive_of, bring_back, make_custody, open_ledger
from tests.support.enclave_process import ROOT, command
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


def name_token(home: EnclaveHome, module: str) -> None:
    path = home.folder / "kms.json"
    settings = decode(path.read_bytes(), KmsSettings)
    token = TokenSettings(module=module, token="theirs", pin_file="/theirs", ring="r")
    path.write_bytes(encode(altered(settings, token=token)))


def archive_for(home: EnclaveHome, key: BackupKey) -> bytes:
    sink = io.BytesIO()
    back_up(home, sink, key.public, LABEL, lambda: None)
    return sink.getvalue()


def code_of(archive: bytes, folder: Path, proof: Proof = LOSS, **others: object) -> str:
    with pytest.raises((Failed, Refused)) as caught:
        bring_back(archive, folder, proof, **others)  # type: ignore[arg-type]
    assert not folder.exists()
    assert not list(folder.parent.glob(".*restoring*"))
    return caught.value.code if isinstance(caught.value, Failed) else caught.value.rule


@pytest.mark.parametrize("options", [(), ("--pkcs11-token=other",), ("--pkcs11-token=other", "--pkcs11-pin-file=pin")])
def test_no_library_that_an_archive_names_is_taken(custody: Custody, tmp_path: Path, options: tuple[str, ...]) -> None:
    name_token(custody.home, str(custody.home.folder / "evil.so"))
    words = [*options, "--key", str(tmp_path / "key"), "--accept-loss-of-receipts"]
    archive = archive_for(custody.home, BackupKey.create(tmp_path / "key"))
    done = subprocess.run(
        [*command("restore", *words), "--home", str(tmp_path / "new")], cwd=ROOT, input=archive, capture_output=True
    )
    assert (done.returncode, done.stderr) == (1, b"yunei enclave: restore.token-needed\n")
    assert not (tmp_path / "new").exists()


def test_the_token_is_the_one_that_is_named_at_the_restore(custody: Custody, tmp_path: Path) -> None:
    proof, token = Proof(checkpoint=custody.note), KmsChoice(module="/opt/good.so", token="mine", pin_file="/pin")
    assert code_of(archive_of(custody.home), tmp_path / "new", proof, token=token) == "restore.token-unexpected"
    name_token(custody.home, "/opt/evil.so")
    archive = archive_of(custody.home)
    inside = replace(token, module=str(tmp_path / ".new.restoring" / "home" / "evil.so"))
    assert code_of(archive, tmp_path / "new", proof, token=inside) == "kms.module"
    home, _ = bring_back(archive, tmp_path / "new", proof, token=token)
    kept = decode((home.folder / "kms.json").read_bytes(), KmsSettings).token
    assert kept == TokenSettings(module="/opt/good.so", token="mine", pin_file="/pin", ring="r")


def test_only_the_known_enclave_comes_back(custody: Custody, tmp_path: Path) -> None:
    archive, known = archive_of(custody.home), digest(KeyFile.load(custody.home.receipt_key).public_key.raw)
    for wrong in ("", known[:15], "0" * 16, known[:-1] + ("0" if known[-1] != "0" else "1"), known + "0"):
        assert code_of(archive, tmp_path / "new", Proof(None, None, True, wrong)) == "restore.foreign"
    for number, right in enumerate((known, known[:16], known.upper())):
        _, report = bring_back(archive, tmp_path / f"new{number}", Proof(None, None, True, right))
        assert report.enclave_key == known


def test_a_manifest_that_another_key_signed_is_damage(
    custody: Custody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = KeyFile.create(tmp_path / "stranger.key")
    monkeypatch.setattr(backup, "seal", lambda value, purpose, key: seal(value, purpose, stranger))
    assert code_of(archive_of(custody.home), tmp_path / "new") == "backup.damaged"
    monkeypatch.setattr(backup, "seal", lambda value, purpose, key: seal(value, "receipt", key))
    assert code_of(archive_of(custody.home), tmp_path / "new") == "backup.damaged"


def test_who_has_seen_nothing_proves_nothing(custody: Custody, tmp_path: Path) -> None:
    """Neither by an empty file nor by the checkpoint of the log before its first receipt."""
    archive = archive_of(custody.home)
    (tmp_path / "fresh").mkdir()
    unused = make_custody(tmp_path / "fresh")
    path = tmp_path / "seen"
    path.write_bytes(b'{"checkpoint":null}\n')
    head = Checkpoint(origin=RECEIPT_ORIGIN, size=0, root=EMPTY_ROOT)
    assert code_of(archive, tmp_path / "new", Proof(receipts=path)) == "restore.unproven"
    assert not bring_back(archive_of(unused.home), tmp_path / "new", Proof(receipts=path))[1].is_lossy
    first = sign_checkpoint(head, KeyFile.load(custody.home.receipt_key))
    assert code_of(archive, tmp_path / "first", Proof(checkpoint=first)) == "restore.unproven"
    assert code_of(archive, tmp_path / "first", Proof(checkpoint=first, receipts=path)) == "restore.unproven"
    home, report = bring_back(archive, tmp_path / "lossy", Proof(receipts=path, accepts_loss=True))
    assert report.is_lossy
    with open_ledger(home) as ledger:
        assert all(item.spent == item.lifetime for item in ledger.readings())


def test_after_a_loss_earlier_grants_are_used_up(custody: Custody, tmp_path: Path) -> None:
    """Also for jobs that cost no privacy: what the backup has forgotten are their uses."""
    ticket, signed, grant = custody.tickets[0]
    archive = archive_of(custody.home)
    proven, _ = bring_back(archive, tmp_path / "proven", Proof(checkpoint=custody.note))
    with open_ledger(proven) as ledger:
        ledger.open_ticket(altered(ticket, ticket_id="a"), signed, grant, (), utc_now())  # type: ignore[arg-type]
    home, report = bring_back(archive, tmp_path / "new", LOSS)
    again, _ = bring_back(archive_of(home), tmp_path / "again", Proof(checkpoint=custody.note))
    for place in (home, again):
        with open_ledger(place) as ledger:
            for number, begin in enumerate((grant.not_before, report.not_before - timedelta(microseconds=1))):
                fresh, old = altered(ticket, ticket_id=f"b{number}"), altered(grant, not_before=begin)
                for _ in range(2):  # a refusal uses nothing up
                    with pytest.raises(Refused, match=r"grant\.uses"):
                        ledger.open_ticket(fresh, signed, old, (), utc_now())  # type: ignore[arg-type]
            signed_anew = altered(grant, grant_id="new", not_before=report.not_before)
            ledger.open_ticket(altered(ticket, ticket_id="c"), signed, signed_anew, (), utc_now())  # type: ignore[arg-type]
