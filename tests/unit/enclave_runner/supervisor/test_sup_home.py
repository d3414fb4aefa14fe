"""Home and limits: private, of one process, never half-made, and no start on anything missing."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.rawdata.kms import KmsChoice
from enclave_runner.supervisor.enclave import open_enclave
from enclave_runner.supervisor.home import EnclaveHome, create_home, lock_home, read_trust
from enclave_runner.supervisor.limits import read_limits
from tests.support.enclave_home import POLICIES, Bureau, make_bureau, policies_copy


@pytest.fixture
def bureau(tmp_path: Path) -> Bureau:
    return make_bureau(tmp_path)


def start_code(home: EnclaveHome) -> str:
    with pytest.raises(Failed) as caught, open_enclave(home):
        pass
    return caught.value.code


def test_a_home_is_for_its_owner_alone(bureau: Bureau) -> None:
    modes = {path.relative_to(bureau.home.folder).as_posix(): path.stat().st_mode & 0o777 for path in bureau.home.folder.rglob("*")}  # fmt: skip  # noqa: E501
    assert bureau.home.folder.stat().st_mode & 0o777 == 0o700
    assert modes.pop("policies") == modes.pop("kek") == 0o700
    assert set(modes.values()) == {0o600}
    assert {"receipt.key", "pseudonym.key", "kms.json", "trust.json"} <= set(modes)
    assert {"policies/limits.toml", "policies/rules.toml"} <= set(modes)


def test_a_home_is_made_once_and_two_homes_share_no_key(bureau: Bureau, tmp_path: Path) -> None:
    before = bureau.home.receipt_key.read_bytes()
    with pytest.raises(Failed) as caught:
        create_home(bureau.home, read_trust(bureau.home), POLICIES)
    assert caught.value.code == "home.exists"
    assert bureau.home.receipt_key.read_bytes() == before
    other = EnclaveHome(tmp_path / "other")
    create_home(other, read_trust(bureau.home), POLICIES)
    assert other.receipt_key.read_bytes() != before
    assert other.pseudonym_key.read_bytes() != bureau.home.pseudonym_key.read_bytes()


def test_all_of_a_home_is_on_disk_when_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = set[tuple[int, int]](), os.fsync

    def note(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.add((found.st_dev, found.st_ino))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    home = make_bureau(tmp_path).home
    made = [home.folder.parent, home.folder, *home.folder.rglob("*")]
    assert {home.pseudonym_key, home.trust, home.policies / "limits.toml", home.policies} < set(made)
    unsynced = [path for path in made if (path.stat().st_dev, path.stat().st_ino) not in synced]
    assert unsynced == []


@pytest.mark.parametrize("pack", ["nowhere", "broken", "limitless"])
def test_nothing_is_made_of_a_pack_that_cannot_be_read(bureau: Bureau, tmp_path: Path, pack: str) -> None:
    (tmp_path / "again").mkdir()
    folder = policies_copy(tmp_path / "again")
    if pack == "broken":
        (folder / "rules.toml").write_text("not toml at all")
    if pack == "limitless":
        (folder / "limits.toml").write_text("[privacy]\n")
    home = EnclaveHome(tmp_path / "new")
    with pytest.raises(Failed) as caught:
        create_home(home, read_trust(bureau.home), tmp_path / "nowhere" if pack == "nowhere" else folder)
    assert caught.value.code.startswith("policy.")
    assert not home.folder.exists()


def test_one_process_at_a_time(bureau: Bureau, tmp_path: Path) -> None:
    held = lock_home(bureau.home)
    with pytest.raises(Failed) as caught:
        lock_home(bureau.home)
    assert caught.value.code == "home.busy"
    os.close(held)
    os.close(lock_home(bureau.home))
    with pytest.raises(Failed) as caught:
        lock_home(EnclaveHome(tmp_path / "nowhere"))
    assert caught.value.code == "home.unreadable"


def test_no_start_without_key_trust_rules_or_limits(bureau: Bureau) -> None:
    home = bureau.home
    for path, code in (
        (home.receipt_key, "key.unreadable"),
        (home.trust, "home.unreadable"),
        (home.policies / "rules.toml", "policy.unreadable"),
    ):
        aside = path.with_name("aside")
        path.rename(aside)
        assert start_code(home) == code
        aside.rename(path)
    home.receipt_key.chmod(0o644)
    assert start_code(home) == "key.permissions"
    home.receipt_key.chmod(0o600)
    home.trust.write_text("{}")
    with pytest.raises(Refused), open_enclave(home):
        pass


def test_no_start_without_the_keys_of_the_raw_data(bureau: Bureau) -> None:
    (kek,) = (bureau.home.folder / "kek").iterdir()
    for path, code in ((bureau.home.folder / "kms.json", "kms.unreadable"), (kek, "kms.key-missing")):
        aside = bureau.home.folder / "aside"
        path.rename(aside)
        assert start_code(bureau.home) == code
        aside.rename(path)
    kek.chmod(0o640)
    assert start_code(bureau.home) == "kms.permissions"


def test_nothing_is_made_where_the_token_does_not_answer(bureau: Bureau, tmp_path: Path) -> None:
    home, nowhere = EnclaveHome(tmp_path / "new"), str(tmp_path / "nowhere")
    with pytest.raises(Failed) as caught:
        create_home(home, read_trust(bureau.home), POLICIES, KmsChoice(module=nowhere, token="t", pin_file=nowhere))
    assert caught.value.code.startswith("kms.")
    assert not home.folder.exists()


def test_no_start_without_a_jail_and_nothing_is_left_open(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_jail(*arguments: object) -> None:
        raise Failed("jail.absent")

    monkeypatch.setattr("enclave_runner.supervisor.enclave.require_jail", no_jail)
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert start_code(bureau.home) == "jail.absent"
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_job_epsilon", '"NaN"'),
        ("max_job_epsilon", '"inf"'),
        ("max_job_delta", '"x"'),
        ("lifetime_rho_default", '"Infinity"'),
        ("resident", '"NaN"'),
        ("max_cells", '"many"'),
        ("memory_mb", "[1]"),
        ("lifetime_delta_default", '"1"'),
        ("lifetime_delta_default", '"-1e-9"'),
        ("lifetime_delta", '{ resident = "half" }'),
        ("nested", '{ resident = "resident" }'),
        ("nested", '{ resident = "household", household = "resident" }'),
        ("bits_per_subject", '"0"'),
        ("bits_per_subject", '"NaN"'),
        ("alarm_bits", '"-1"'),
        ("evaluations_per_caller", "0"),
        ("k_min", "0"),
        ("answer_seconds", '"soon"'),
    ],
)
def test_limits_that_are_no_limits_are_refused(tmp_path: Path, setting: str, value: str) -> None:
    with pytest.raises(Failed) as caught:
        read_limits(PolicyPack(policies_copy(tmp_path, **{setting: value})))
    assert caught.value.code == "policy.limits"


TABLES = tomllib.loads((POLICIES / "limits.toml").read_text(encoding="utf-8"))
LISTED = tuple(TABLES["privacy"]["lifetime_rho"])  # each of these may go: the default is the lifetime then
NEEDED = sorted({name for table in TABLES.values() for name, value in table.items() if not isinstance(value, dict)})


@pytest.mark.parametrize("name", NEEDED)
def test_no_setting_has_a_silent_default(tmp_path: Path, name: str) -> None:
    """A default would be a limit that nobody set."""
    folder = policies_copy(tmp_path)
    lines = (folder / "limits.toml").read_text().splitlines()
    left = [line for line in lines if not line.startswith(f"{name} = ")]
    assert len(left) < len(lines)
    (folder / "limits.toml").write_text("\n".join(left))
    with pytest.raises(Failed) as caught:
        read_limits(PolicyPack(folder))
    assert caught.value.code == "policy.limits"


@pytest.mark.parametrize("entity_set", LISTED)
def test_a_lifetime_that_is_taken_out_falls_back_to_the_default(tmp_path: Path, entity_set: str) -> None:
    folder = policies_copy(tmp_path)
    lines = (folder / "limits.toml").read_text().splitlines()
    left = [line for line in lines if not line.startswith(f"{entity_set} = ")]
    assert len(left) == len(lines) - 1
    (folder / "limits.toml").write_text("\n".join(left))
    limits, whole = read_limits(PolicyPack(folder)), read_limits(PolicyPack(POLICIES))
    assert limits.lifetime(entity_set) == limits.lifetime_default != whole.lifetime(entity_set)


def test_the_lifetime_of_an_unlisted_entity_set_is_the_default() -> None:
    limits = read_limits(PolicyPack(POLICIES))
    assert limits.lifetime("vehicle") == limits.lifetime_default > 0
