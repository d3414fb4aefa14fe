"""SM2 with SM3: the published example, OpenSSL as a second opinion, and everything that is no signature."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from enclave_runner.contract import sm2
from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.merkle import Checkpoint, frontier_of, open_checkpoint, sign_checkpoint
from enclave_runner.contract.signing import Algorithm, KeyFile, PublicKey, Signed, check_signature, is_signed, seal

# GB/T 32918.5-2017, annex A.2: digital signature on the recommended curve.
PRIVATE = bytes.fromhex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
PUBLIC = bytes.fromhex(
    "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
)
MESSAGE = b"message digest"
SIGNATURE = bytes.fromhex(
    "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
    "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
)
OPENSSL = shutil.which("openssl")
SM2_OPTIONS = ("-rawin", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678")


class Note(Value, frozen=True):
    """Something to sign."""

    text: str = "收据"


@pytest.fixture
def key(tmp_path: Path) -> KeyFile:
    return KeyFile.create(tmp_path / "sm2.key", Algorithm.SM2)


def test_the_published_example_verifies() -> None:
    assert sm2.is_signed(PUBLIC, MESSAGE, SIGNATURE)
    assert sm2.is_signed(PUBLIC, MESSAGE, sm2.sign(PRIVATE, PUBLIC, MESSAGE))


def test_every_single_byte_of_the_example_counts() -> None:
    for name, content in (("message", MESSAGE), ("signature", SIGNATURE), ("public", PUBLIC)):
        for at in range(len(content)):
            changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
            given = {"message": MESSAGE, "signature": SIGNATURE, "public": PUBLIC, name: changed}
            assert not sm2.is_signed(given["public"], given["message"], given["signature"]), (name, at)


@pytest.mark.parametrize(
    ("public", "signature"),
    [
        (PUBLIC, b""),
        (PUBLIC, SIGNATURE[:-1]),
        (PUBLIC, SIGNATURE + b"\0"),
        (PUBLIC, bytes(32) + SIGNATURE[32:]),
        (PUBLIC, SIGNATURE[:32] + bytes(32)),
        (PUBLIC, sm2.ORDER.to_bytes(32, "big") + SIGNATURE[32:]),
        (PUBLIC, b"\xff" * 64),
        (b"", SIGNATURE),
        (b"\x04" + PUBLIC, SIGNATURE),
        (bytes(64), SIGNATURE),
        (b"\xff" * 64, SIGNATURE),
    ],
)
def test_what_is_no_key_or_no_signature_signed_nothing(public: bytes, signature: bytes) -> None:
    assert not sm2.is_signed(public, MESSAGE, signature)


def test_a_signature_is_bound_to_the_identity_and_is_never_the_same_twice() -> None:
    first, second = sm2.sign(PRIVATE, PUBLIC, MESSAGE), sm2.sign(PRIVATE, PUBLIC, MESSAGE)
    assert first != second
    assert len(first) == len(second) == sm2.SIGNATURE_BYTES


def test_purposes_keep_apart_as_with_ed25519(key: KeyFile) -> None:
    signed = seal(Note(), "receipt", key)
    assert (signed.algorithm, len(signed.signature)) == ("sm2", 64)
    check_signature(signed, "receipt", (key.public_key,))
    for purpose, shown in (("ticket", signed), ("ticket", relabelled(signed, purpose="ticket"))):
        with pytest.raises(Refused) as caught:
            check_signature(shown, purpose, (key.public_key,))
        assert caught.value.rule == "signature.invalid"


def test_the_trusted_key_chooses_the_algorithm_and_not_the_message(key: KeyFile, tmp_path: Path) -> None:
    signed = seal(Note(), "receipt", key)
    ed25519 = KeyFile.create(tmp_path / "ed25519.key").public_key
    for algorithm, trusted in (("ed25519", key.public_key), ("sm2", ed25519), ("none", key.public_key)):
        with pytest.raises(Refused):
            check_signature(relabelled(signed, algorithm=algorithm, key_id=trusted.key_id), "receipt", (trusted,))
    assert not is_signed(PublicKey(algorithm="sm9", raw=PUBLIC), MESSAGE, SIGNATURE)


def test_checkpoints_verify_under_sm2_and_under_no_other_key(key: KeyFile, tmp_path: Path) -> None:
    frontier = frontier_of([b"one", b"two"])
    note = sign_checkpoint(Checkpoint(origin="log", size=frontier.size, root=frontier.root), key)
    assert open_checkpoint(note, "log", key.public_key).size == 2
    for other in (KeyFile.create(tmp_path / "2", Algorithm.SM2), KeyFile.create(tmp_path / "3")):
        with pytest.raises(Refused):
            open_checkpoint(note, "log", other.public_key)
    as_ed25519 = PublicKey(algorithm="ed25519", raw=key.public_key.raw)
    with pytest.raises(Refused):
        open_checkpoint(note, "log", as_ed25519)


def test_a_key_file_is_private_and_comes_back(key: KeyFile, tmp_path: Path) -> None:
    path = tmp_path / "sm2.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyFile.load(path).public_key == key.public_key
    assert sm2.is_signed(key.public_key.raw, MESSAGE, KeyFile.load(path).sign(MESSAGE))
    with pytest.raises(FileExistsError):
        KeyFile.create(path, Algorithm.SM2)


def test_no_representation_shows_the_private_half(key: KeyFile, tmp_path: Path) -> None:
    pair = sm2.from_pem((tmp_path / "sm2.key").read_bytes())
    assert pair is not None
    assert repr(pair[0])[2:-1] not in repr(vars(key))


def test_two_halves_that_do_not_belong_together_are_no_key(tmp_path: Path) -> None:
    stranger, _ = sm2.new_key()
    for private in (stranger, bytes(32)):
        path = tmp_path / "mixed.key"
        path.write_bytes(sm2.to_pem(private, PUBLIC))
        path.chmod(0o600)
        with pytest.raises(Failed) as caught:
            KeyFile.load(path)
        assert caught.value.code == "key.unreadable"


def test_without_the_extra_it_says_so(tmp_path: Path, key: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = seal(Note(), "receipt", key)
    monkeypatch.setattr(sm2, "AVAILABLE", False)
    for act in (
        lambda: KeyFile.create(tmp_path / "new", Algorithm.SM2),
        lambda: KeyFile.load(tmp_path / "sm2.key"),
        lambda: check_signature(signed, "receipt", (key.public_key,)),
        lambda: key.sign(b"x"),
    ):
        with pytest.raises(Failed) as caught:
            act()
        assert caught.value.code == "key.sm2"
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(OPENSSL is None, reason="no openssl command")
def test_openssl_reads_our_key_and_verifies_our_signature_and_we_its(tmp_path: Path, key: KeyFile) -> None:
    path, message, der, public = (tmp_path / name for name in ("sm2.key", "message", "signature", "public.pem"))
    message.write_bytes(MESSAGE)
    openssl("pkey", "-in", path, "-pubout", "-out", public)
    openssl("pkeyutl", "-sign", "-inkey", path, "-in", message, "-out", der, *SM2_OPTIONS)
    r, s = decode_dss_signature(der.read_bytes())
    assert sm2.is_signed(key.public_key.raw, MESSAGE, r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    ours = key.sign(MESSAGE)
    der.write_bytes(encode_dss_signature(int.from_bytes(ours[:32], "big"), int.from_bytes(ours[32:], "big")))
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, "-in", message, "-sigfile", der, *SM2_OPTIONS)


@pytest.mark.skipif(OPENSSL is None, reason="no openssl command")
def test_a_key_that_openssl_made_is_ours_too(tmp_path: Path) -> None:
    path = tmp_path / "theirs.key"
    openssl("genpkey", "-algorithm", "SM2", "-out", path)
    path.chmod(0o600)
    key = KeyFile.load(path)
    assert is_signed(key.public_key, MESSAGE, key.sign(MESSAGE))


def openssl(*arguments: object) -> None:
    assert OPENSSL is not None
    done = subprocess.run([OPENSSL, *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def relabelled(signed: Signed, **fields: object) -> Signed:
    return Signed(**{**{name: getattr(signed, name) for name in signed.__struct_fields__}, **fields})
