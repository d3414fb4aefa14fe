"""Key-encryption keys in a real SoftHSM token. Every step is a process of its own, as in a deployment.

A PKCS#11 library is initialised once per process, with the configuration that it finds then: in-process tests would
share one token and one login.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.softhsm import PIN, SoftHsm, make_token, needs_softhsm

pytestmark = needs_softhsm
ROOT = Path(__file__).parents[4]
START = """
import sys
from pathlib import Path
from enclave_runner.contract.errors import Failed
from enclave_runner.rawdata.kms import KmsChoice
from tests.support.raw_stores import contents, kms_in, open_store, publish
from tests.support.softhsm import TOKEN
folder, module, pin_file = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
"""
CREATE = "kms_in(folder).create(KmsChoice(module=module, token=TOKEN, pin_file=pin_file))\n"
PUBLISH = "publish(open_store(folder), age=b'canary', city=b'c')\n"
READ = "print(contents(open_store(folder), 'people@v1-a', 'age', 'city'))\n"
ROTATE = "print(kms_in(folder).rotate(open_store(folder)).destroyed)\n"
ATTRIBUTES = """
import pkcs11
from pkcs11 import Attribute
token = pkcs11.lib(module).get_token(token_label=TOKEN)
with token.open(user_pin=Path(pin_file).read_text().strip()) as session:
    for key in session.get_objects({Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}):
        print(key[Attribute.SENSITIVE], key[Attribute.EXTRACTABLE], key[Attribute.NEVER_EXTRACTABLE], key.key_length)
        try:
            print(key[Attribute.VALUE])
        except pkcs11.exceptions.AttributeSensitive:
            print('kept')
"""


@pytest.fixture
def token(tmp_path: Path) -> SoftHsm:
    return make_token(tmp_path / "hsm")


def run(token: SoftHsm, folder: Path, *steps: str) -> str:
    """The output of a process that does these steps; `FAILED code` when one failed."""
    body = "".join(f"    {line}\n" for step in steps for line in step.strip().splitlines())
    script = f"{START}try:\n{body}except Failed as failed:\n    print('FAILED', failed.code)\n"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), token.module, str(token.pin_file)],
        cwd=ROOT,
        env={**os.environ, **token.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert PIN not in done.stdout + done.stderr
    return done.stdout.strip()


def test_data_keys_are_wrapped_in_the_token(token: SoftHsm, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert run(token, home, CREATE, PUBLISH) == ""
    assert run(token, home, READ) == "[b'canary', b'c']"
    assert not (home / "kek").exists()
    assert PIN not in (home / "kms.json").read_text()


def test_the_key_never_leaves_the_token(token: SoftHsm, tmp_path: Path) -> None:
    run(token, tmp_path / "home", CREATE)
    assert run(token, tmp_path / "home", ATTRIBUTES).splitlines() == ["True False True 256", "kept"]


def test_rotation_makes_a_new_key_in_the_token_and_destroys_the_old(token: SoftHsm, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(token, home, CREATE, PUBLISH)
    old = (home / "raw" / "people@v1-a" / "manifest.json").read_bytes()
    assert run(token, home, ROTATE) == "1"
    assert run(token, home, READ) == "[b'canary', b'c']"
    assert len(run(token, home, ATTRIBUTES).splitlines()) == 2
    (home / "raw" / "people@v1-a" / "manifest.json").write_bytes(old)
    assert run(token, home, READ) == "FAILED kms.key-missing"


def test_two_enclaves_in_one_token_do_not_destroy_each_others_keys(token: SoftHsm, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for home in (one, two):
        run(token, home, CREATE, PUBLISH)
    assert run(token, one, ROTATE) == "1"
    assert run(token, two, READ) == "[b'canary', b'c']"


def test_a_version_of_another_name_does_not_open(token: SoftHsm, tmp_path: Path) -> None:
    """The context is bound inside the token."""
    home = tmp_path / "home"
    run(token, home, CREATE, PUBLISH)
    (home / "raw" / "people@v1-a").rename(home / "raw" / "people@v2-a")
    manifest = home / "raw" / "people@v2-a" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"v1-a", b"v2-a"))
    assert run(token, home, READ.replace("v1-a", "v2-a")) == "FAILED rawdata.damaged"


@pytest.mark.parametrize(
    ("mode", "pin", "code"),
    [(0o640, PIN, "kms.permissions"), (0o600, "wrong", "kms.pin"), (0o600, None, "kms.pin")],
    ids=["readable by the group", "wrong", "absent"],
)
def test_without_a_private_and_right_pin_nothing_opens(
    token: SoftHsm, tmp_path: Path, mode: int, pin: str | None, code: str
) -> None:
    run(token, tmp_path / "home", CREATE, PUBLISH)
    token.pin_file.unlink()
    if pin is not None:
        token.pin_file.write_text(pin)
        token.pin_file.chmod(mode)
    assert run(token, tmp_path / "home", READ) == f"FAILED {code}"


def test_without_the_token_nothing_opens(token: SoftHsm, tmp_path: Path) -> None:
    run(token, tmp_path / "home", CREATE, PUBLISH)
    other = make_token(tmp_path / "other")
    assert run(other, tmp_path / "home", READ) == "FAILED kms.key-missing"
    empty = tmp_path / "empty.conf"
    (tmp_path / "none").mkdir()
    empty.write_text(f"directories.tokendir = {tmp_path / 'none'}\n")
    absent = SoftHsm(token.module, token.pin_file, {"SOFTHSM2_CONF": str(empty)})
    assert run(absent, tmp_path / "home", READ) == "FAILED kms.token-absent"
