"""A SoftHSM token of one's own, in a temporary folder: the real PKCS#11 interface without the hardware."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
MODULE = next((Path(name) for name in MODULES if Path(name).exists()), None)
TOKEN, PIN = "yunei-test", "7319-not-in-any-log"
needs_softhsm = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None or find_spec("pkcs11") is None,
    reason="needs SoftHSM (apt: softhsm2) and the extra `hsm` (python-pkcs11)",
)


@dataclass(frozen=True)
class SoftHsm:
    """A token that is initialised. `environment` is what a process needs to find it."""

    module: str
    pin_file: Path
    environment: dict[str, str]

    @property
    def options(self) -> list[str]:
        """The enclave's options for it."""
        named = [f"--pkcs11-module={self.module}", f"--pkcs11-token={TOKEN}", f"--pkcs11-pin-file={self.pin_file}"]
        return ["--kms=pkcs11", *named]


def make_token(folder: Path) -> SoftHsm:
    """Initialise a token below `folder`."""
    (folder / "tokens").mkdir(parents=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    environment = {"SOFTHSM2_CONF": str(configuration)}
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", "0000-so"],
        env=environment,
        check=True,
        capture_output=True,
    )
    pin_file = folder / "pin"
    pin_file.touch(0o600)
    pin_file.write_text(PIN + "\n")
    return SoftHsm(str(MODULE), pin_file, environment)
