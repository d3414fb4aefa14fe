"""Which key-encryption keys this enclave uses: a closed value in the home, its opening, and the rotation of the KEK."""

from __future__ import annotations

import importlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enclave_runner.contract.codec import Value, decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.rawdata.durable import replace_private
from enclave_runner.rawdata.store import RawStore
from enclave_runner.rawdata.suite import Suite
from enclave_runner.rawdata.wrapping import FileWrapper, KeyWrapper

FORMAT = 1


class TokenSettings(Value, frozen=True):
    """A PKCS#11 token. `ring` tells this enclave's KEKs from others' in the same token; the PIN stands in a file."""

    module: str
    token: str
    pin_file: str
    ring: str


class KmsSettings(Value, frozen=True):
    """`key_id` names the KEK that wraps; without a token, KEKs are files of the home."""

    suite: Suite
    key_id: str
    token: TokenSettings | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class KmsChoice:
    """What is chosen when a home is made: the suite, and the PKCS#11 module that holds the token, if any."""

    suite: Suite = Suite.AES_256_GCM
    module: str | None = None
    token: str = ""
    pin_file: str = ""


FILE_KMS = KmsChoice()


@dataclass(frozen=True)
class Kms:
    """The settings' file and the folder of KEK files, opened or to be made."""

    file: Path
    folder: Path

    def create(self, choice: KmsChoice) -> None:
        """Make the first KEK and record the choice.

        Raises:
            Failed: `kms.module` for a library inside the home, `kms.write`, and what the token says (`kms.…`).
        """
        token = None
        if choice.module is not None:
            ring = secrets.token_hex(8)
            token = TokenSettings(module=choice.module, token=choice.token, pin_file=choice.pin_file, ring=ring)
            self._check_module(choice.module)
        try:
            keys = FileWrapper.create(self.folder, choice.suite) if token is None else _token_wrapper(token).renewed()
        except OSError:
            raise Failed("kms.write") from None
        self._record(KmsSettings(suite=choice.suite, key_id=keys.key_id, token=token))

    def open(self) -> tuple[KeyWrapper, Suite]:
        """The wrapper and the suite for new data. Nothing is assumed: without settings or KEK nothing opens.

        Raises:
            Failed: `kms.unreadable`, `kms.key-missing`, `kms.permissions`, `kms.module`, and what the token says.
        """
        settings = self._settings()
        if settings.token is None:
            return FileWrapper(self.folder, settings.key_id, settings.suite), settings.suite
        self._check_module(settings.token.module)
        return _token_wrapper(settings.token, settings.key_id), settings.suite

    def point_at(self, choice: KmsChoice) -> None:
        """Take library, token and PIN from who restores this home: a library is code, and the home came from elsewhere.

        Raises:
            Failed: `restore.token-needed` when a token is needed and not all three are given,
                `restore.token-unexpected` when one is given and the keys are files, `kms.module`, `kms.unreadable`.
        """
        settings = self._settings()
        if settings.token is None:
            if choice.module is not None:
                raise Failed("restore.token-unexpected")
            return
        if not (choice.module and choice.token and choice.pin_file):
            raise Failed("restore.token-needed")
        self._check_module(choice.module)
        token = TokenSettings(
            module=choice.module, token=choice.token, pin_file=choice.pin_file, ring=settings.token.ring
        )
        self._record(KmsSettings(suite=settings.suite, key_id=settings.key_id, token=token))

    def _check_module(self, module: str) -> None:
        """What lies in the home is data: no code is loaded from it, under no name."""
        path, home = Path(module), self.file.parent.resolve()
        places = (path.resolve(), path.parent.resolve() / path.name)
        if not path.is_absolute() or any(place.is_relative_to(home) for place in places):
            raise Failed("kms.module")

    def rotate(self, store: RawStore) -> Rotation:
        """Wrap every data key of the raw store under a fresh KEK and destroy all others. The enclave must not run.

        Killed anywhere, the store still opens and the next call completes: the fresh KEK exists before it is recorded,
        it is recorded before anything is wrapped under it, and old KEKs go when no manifest names them any more.

        Raises:
            Failed: `kms.…`, `rawdata.damaged` (drop that version first): then the old KEKs are kept.
        """
        settings = self._settings()
        keys, suite = self.open()
        try:
            fresh = keys.renewed()
            self._record(KmsSettings(suite=suite, key_id=fresh.key_id, token=settings.token))
            return Rotation(key_id=fresh.key_id, versions=store.rewrap(fresh), destroyed=fresh.destroy_others())
        except OSError:
            raise Failed("kms.write") from None

    def _settings(self) -> KmsSettings:
        try:
            settings = decode(self.file.read_bytes(), KmsSettings)
        except (OSError, Refused):
            raise Failed("kms.unreadable") from None
        if settings.format != FORMAT:
            raise Failed("kms.unreadable")
        return settings

    def _record(self, settings: KmsSettings) -> None:
        try:
            replace_private(self.file, encode(settings))
        except OSError:
            raise Failed("kms.write") from None


class Rotation(Value, frozen=True):
    """What a rotation did: the new KEK's id, how many versions were wrapped again, how many old KEKs were destroyed."""

    key_id: str
    versions: int
    destroyed: int


def _token_wrapper(settings: TokenSettings, key_id: str | None = None) -> KeyWrapper:
    # By name, and only when a token is configured: its library is an extra, and a native one that others do not load.
    try:
        hsm: Any = importlib.import_module("enclave_runner.rawdata.hsm")
    except ImportError:
        raise Failed("kms.library-absent") from None
    wrapper: KeyWrapper = hsm.Pkcs11Wrapper(
        settings.module, settings.token, Path(settings.pin_file), settings.ring, key_id
    )
    return wrapper
