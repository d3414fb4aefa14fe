"""Key management of a home: recorded when it is made, required ever after, rotated without touching data."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from enclave_runner.contract.codec import encode
from enclave_runner.rawdata.kms import KmsChoice, KmsSettings, TokenSettings
from enclave_runner.rawdata.suite import Suite
from tests.support.crashes import killed_at_every_step
from tests.support.raw_stores import contents, kms_in, make_store, open_store, publish
from tests.support.refusals import failed_at


@pytest.mark.parametrize("suite", Suite)
def test_the_choice_is_kept(tmp_path: Path, suite: Suite) -> None:
    kms_in(tmp_path).create(KmsChoice(suite=suite))
    keys, kept = kms_in(tmp_path).open()
    assert (kept, keys.unwrap(keys.wrap(b"k", b""), b"")) == (suite, b"k")
    assert (tmp_path / "kms.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"suite":"rot13","key_id":"0000000000000000","format":1}'])
def test_without_settings_nothing_opens(tmp_path: Path, content: bytes | None) -> None:
    kms_in(tmp_path).create(KmsChoice())
    (tmp_path / "kms.json").unlink() if content is None else (tmp_path / "kms.json").write_bytes(content)
    with failed_at("kms.unreadable"):
        kms_in(tmp_path).open()


def test_a_later_format_is_not_guessed_at(tmp_path: Path) -> None:
    kms_in(tmp_path).create(KmsChoice())
    path = tmp_path / "kms.json"
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))
    with failed_at("kms.unreadable"):
        kms_in(tmp_path).open()


def test_without_its_key_nothing_opens(tmp_path: Path) -> None:
    kms_in(tmp_path).create(KmsChoice())
    shutil.rmtree(tmp_path / "kek")
    with failed_at("kms.key-missing"):
        kms_in(tmp_path).open()


@pytest.mark.skipif(find_spec("pkcs11") is None, reason="the extra `hsm` is not installed")
def test_a_module_that_is_no_token_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pin").touch(0o600)
    (tmp_path / "home").mkdir()
    choice = KmsChoice(module=str(tmp_path / "no.so"), token="t", pin_file=str(tmp_path / "pin"))
    with failed_at("kms.token-absent"):
        kms_in(tmp_path / "home").create(choice)
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("module", ["home/a.so", "home/raw/../a.so", "out/to-home/a.so", "home/to-out.so", "out/in.so"])
def test_no_code_is_loaded_from_the_home(tmp_path: Path, module: str) -> None:
    for folder in ("home/raw", "out"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "out" / "to-home").symlink_to(tmp_path / "home")
    (tmp_path / "out" / "in.so").symlink_to(tmp_path / "home" / "a.so")
    (tmp_path / "home" / "to-out.so").symlink_to("/usr/lib/a.so")
    kms = kms_in(tmp_path / "home")
    choice = KmsChoice(module=str(tmp_path / module), token="t", pin_file="/pin")
    with failed_at("kms.module"):
        kms.create(choice)
    assert not (tmp_path / "home" / "kms.json").exists()
    token = TokenSettings(module=str(tmp_path / module), token="t", pin_file="/pin", ring="r")
    (tmp_path / "home" / "kms.json").write_bytes(encode(KmsSettings(Suite.AES_256_GCM, "0" * 16, token)))
    for act in (kms.open, lambda: kms.rotate(None), lambda: kms.point_at(choice)):  # type: ignore[arg-type]
        with failed_at("kms.module"):
            act()


@pytest.mark.parametrize("module", ["a.so", "./a.so", ""])
def test_a_library_is_named_by_its_full_path(tmp_path: Path, module: str) -> None:
    with failed_at("kms.module"):
        kms_in(tmp_path).create(KmsChoice(module=module, token="t", pin_file="/pin"))


@pytest.mark.parametrize("suite", Suite)
def test_rotation_wraps_every_key_again_and_touches_no_data(tmp_path: Path, suite: Suite) -> None:
    store = make_store(tmp_path, suite)
    first, second = publish(store, "v1-a", age=b"1", city=b"2"), publish(store, "v2-b", age=b"3")
    aside = publish(store, "v3-c", age=b"4")
    store.sweep(frozenset({first, second}))
    data = {path: path.read_bytes() for path in (tmp_path / "raw").rglob("*.column")}
    old = {path.name for path in (tmp_path / "kek").iterdir()}
    done = kms_in(tmp_path).rotate(store)
    assert (done.versions, done.destroyed) == (3, 1)
    assert {path.name for path in (tmp_path / "kek").iterdir()} == {f"{done.key_id}.kek"} != old
    assert {path: path.read_bytes() for path in (tmp_path / "raw").rglob("*.column")} == data
    assert all(done.key_id.encode() in path.read_bytes() for path in (tmp_path / "raw").rglob("manifest.json"))
    for opened in (store, open_store(tmp_path)):
        assert contents(opened, first, "age", "city") == [b"1", b"2"]
        assert contents(opened, second, "age") == [b"3"]
    (tmp_path / "raw" / f".aside-{aside}").rename(tmp_path / "raw" / aside)
    assert contents(open_store(tmp_path), aside, "age") == [b"4"]


def test_with_damage_the_old_key_is_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    good, bad = publish(store, "v1-a", age=b"1"), publish(store, "v2-b", age=b"2")
    manifest = tmp_path / "raw" / bad / "manifest.json"
    kept = manifest.read_bytes()
    manifest.write_bytes(b"damage")
    with failed_at("rawdata.damaged"):
        kms_in(tmp_path).rotate(store)
    manifest.write_bytes(kept)
    assert contents(open_store(tmp_path), bad, "age") == [b"2"]
    assert contents(open_store(tmp_path), good, "age") == [b"1"]
    manifest.write_bytes(b"damage")
    store.drop_version(bad)
    assert kms_in(tmp_path).rotate(open_store(tmp_path)).destroyed == 2


def test_rotation_survives_a_kill_at_every_step(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    held = [publish(store, f"v{number}-a", age=bytes([number]), city=b"c") for number in (1, 2)]
    steps = 0
    for steps in killed_at_every_step(lambda: kms_in(tmp_path).rotate(open_store(tmp_path))):
        for number, name in enumerate(held, 1):
            assert contents(open_store(tmp_path), name, "age", "city") == [bytes([number]), b"c"]
        if steps % 3 == 0:  # otherwise the next attempt finds what several killed ones left
            done = kms_in(tmp_path).rotate(open_store(tmp_path))
            assert [path.name for path in (tmp_path / "kek").iterdir()] == [f"{done.key_id}.kek"]
    assert steps > 12
    assert len(list((tmp_path / "kek").iterdir())) == 1
