from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from sandbox.cli.deployment import BUREAU_CODE, BUREAU_NAME, create_deployment
from sandbox.domain.party import Party, Role
from sandbox.pilot.parties import city_parties
from sandbox.settings import Home
from tests.support.refusals import failed_at

BUREAU = Party(party_id="bureau", name=BUREAU_NAME, role=Role.BUREAU, credit_code=BUREAU_CODE)


def test_the_default_bureau_is_that_of_the_pilot_city() -> None:
    assert city_parties()[0].credit_code == BUREAU_CODE


def test_of_two_that_start_at_once_one_makes_the_deployment_whole(tmp_path: Path) -> None:
    home, codes = Home(tmp_path / "home"), []
    gate = threading.Barrier(2)

    def make() -> None:
        gate.wait()
        try:
            create_deployment(home, BUREAU, home.officer_key)
            codes.append("made")
        except Failed as failed:
            codes.append(failed.code)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["home.exists", "made"]
    assert home.trust.exists()
    assert all(path.exists() for path in (home.control_key, home.officer_key, home.control_db, home.enclave))


def test_keys_and_the_enclave_are_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    create_deployment(home, BUREAU, home.officer_key)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (home.control_key, home.officer_key)}
    assert set(modes.values()) == {0o600}
    for folder in (home.control_key.parent, home.officer_key.parent, home.enclave):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    key = tmp_path / "key"
    key.write_bytes(b"no key")
    key.chmod(0o600)
    with failed_at("key.unreadable"):
        create_deployment(home, BUREAU, key)
    with failed_at("home.folder"):
        create_deployment(home, BUREAU, key / "below" / "officer.key")
    assert list(home.folder.iterdir()) == []
    assert key.read_bytes() == b"no key"


@pytest.mark.parametrize("name", ["letter.txt", ".hidden"])
def test_a_folder_in_use_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with failed_at("home.exists"):
        create_deployment(Home(tmp_path), BUREAU, tmp_path / "officer.key")
    assert [path.name for path in tmp_path.iterdir()] == [name]
