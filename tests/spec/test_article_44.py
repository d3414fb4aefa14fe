"""第四十四条：采取身份认证、访问控制、数据加密、数据审计等安全防护措施。授权与作业票分钥签署，审计日志改动即现。"""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.merkle import Checkpoint, Frontier, open_checkpoint, sign_checkpoint
from enclave_runner.contract.signing import KeyFile, seal, unseal
from enclave_runner.contract.trust import Trust
from sandbox.domain.audit import AuditEntry
from tests.support.articles import NOW, a_grant


@pytest.fixture
def officer(tmp_path: Path) -> KeyFile:
    return KeyFile.create(tmp_path / "officer.key")


def test_an_officer_and_the_control_plane_never_share_a_key(officer: KeyFile) -> None:
    with pytest.raises(ValueError, match="officer"):
        Trust(control=(officer.public_key,), officers=(officer.public_key,))


def test_a_grant_counts_only_under_a_trusted_officer(officer: KeyFile, tmp_path: Path) -> None:
    signed = seal(a_grant(), "grant", officer)
    assert unseal(signed, "grant", (officer.public_key,), Grant) == a_grant()
    with pytest.raises(Refused) as refused:
        unseal(signed, "grant", (KeyFile.create(tmp_path / "other.key").public_key,), Grant)
    assert refused.value.rule == "signature.invalid"


def test_a_signature_of_one_purpose_is_none_for_another(officer: KeyFile) -> None:
    with pytest.raises(Refused) as refused:
        unseal(seal(a_grant(), "ticket", officer), "grant", (officer.public_key,), Grant)
    assert refused.value.rule == "signature.invalid"


def test_a_key_that_others_can_read_is_not_used(officer: KeyFile, tmp_path: Path) -> None:
    (tmp_path / "officer.key").chmod(0o640)
    with pytest.raises(Failed) as failed:
        KeyFile.load(tmp_path / "officer.key")
    assert failed.value.code == "key.permissions"


def entry(act: str) -> bytes:
    return AuditEntry(actor="officer-a", act=act, target="g-1", facts={}, at=NOW).leaf


def test_a_changed_audit_entry_changes_the_signed_root(officer: KeyFile) -> None:
    written = Frontier().append(entry("grant.sign")).append(entry("grant.revoke"))
    forged = Frontier().append(entry("grant.sign")).append(entry("grant.extend"))
    assert written.root != forged.root
    note = sign_checkpoint(Checkpoint(origin="audit", size=2, root=written.root), officer)
    assert open_checkpoint(note, "audit", officer.public_key).root == written.root


def test_a_cut_audit_log_does_not_fit_its_checkpoint(officer: KeyFile) -> None:
    note = sign_checkpoint(Checkpoint(origin="audit", size=2, root=b"\0" * 32), officer)
    with pytest.raises(Refused) as refused:
        open_checkpoint(note.replace("audit\n2\n", "audit\n1\n"), "audit", officer.public_key)
    assert refused.value.rule == "checkpoint.invalid"
