"""The policy pack: one digest over everything, every refusal explained, nothing half-read."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.rulebook import PolicyPack
from tests.support.enclave_home import policies_copy


def test_a_refusal_is_explained_with_its_facts(tmp_path: Path) -> None:
    pack = PolicyPack(policies_copy(tmp_path))
    refusal = pack.explain(Refused("grant.uses", max=3))
    assert (refusal.rule, refusal.status) == ("grant.uses", pack.rules["grant.uses"].status)
    assert "3" in refusal.reason + refusal.remedy
    assert "{max}" not in refusal.reason + refusal.remedy + refusal.reason_zh + refusal.remedy_zh


def test_an_unknown_rule_or_fact_loses_no_refusal(tmp_path: Path) -> None:
    pack = PolicyPack(policies_copy(tmp_path))
    assert pack.explain(Refused("no.such-rule")).rule == "no.such-rule"
    assert "{max}" in "".join((pack.explain(Refused("grant.uses")).reason, pack.explain(Refused("grant.uses")).remedy))


def test_a_fact_is_text_and_no_template(tmp_path: Path) -> None:
    refusal = PolicyPack(policies_copy(tmp_path)).explain(Refused("grant.column", column="{column.__class__}"))
    assert "{column.__class__}" in refusal.reason + refusal.remedy


def test_the_digest_covers_every_name_and_byte(tmp_path: Path) -> None:
    folder = policies_copy(tmp_path)
    digests = {PolicyPack(folder).sha256}
    (folder / "extra.cedar").write_text("permit(principal, action, resource);")
    digests.add(PolicyPack(folder).sha256)
    (folder / "extra.cedar").rename(folder / "other.cedar")
    digests.add(PolicyPack(folder).sha256)
    with (folder / "limits.toml").open("a") as file:
        file.write("\n")
    digests.add(PolicyPack(folder).sha256)
    assert len(digests) == 4
    (folder / "notes.txt").write_text("no part of the pack")
    assert PolicyPack(folder).sha256 in digests


@pytest.mark.parametrize("content", [b"\xff", b"not toml", b"['a.b']\nreason = 'no more'\n", b"a = 5\n"])
def test_a_pack_that_cannot_be_read_whole_is_none(tmp_path: Path, content: bytes) -> None:
    folder = policies_copy(tmp_path)
    (folder / "rules.toml").write_bytes(content)
    with pytest.raises(Failed) as caught:
        PolicyPack(folder)
    assert caught.value.code == "policy.unreadable"


def test_a_pack_without_rules_or_folder_is_none(tmp_path: Path) -> None:
    folder = policies_copy(tmp_path)
    (folder / "rules.toml").unlink()
    for missing in (folder, tmp_path / "nowhere"):
        with pytest.raises(Failed):
            PolicyPack(missing)
