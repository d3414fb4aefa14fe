"""SM2 signatures with SM3 (GB/T 32918.2 and .5), over the native GmSSL of the optional extra `gm`.

Keys and signatures are fixed-length bytes, so that each is written in one way: 32 bytes for a private key, x ‖ y for a
public key, r ‖ s for a signature. The signer's identity is the standard's default, `1234567812345678`.
"""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from enclave_runner.contract.errors import Failed

try:
    import gmssl_pyx
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True

ALGORITHM = "sm2"
IDENTITY = b"1234567812345678"
ORDER = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
PRIVATE_BYTES, PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64, 64
# PKCS#8 (RFC 5958) around an ECPrivateKey on sm2p256v1: all lengths are fixed, so the DER is two constants, two keys.
PKCS8_HEAD = bytes.fromhex("308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420")
PKCS8_MIDDLE = bytes.fromhex("a14403420004")
PEM_HEAD, PEM_TAIL = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"


def new_key() -> tuple[bytes, bytes]:
    """A fresh private key and its public key.

    Raises:
        Failed: `key.sm2` when the extra is not installed.
    """
    require()
    public, private = gmssl_pyx.sm2_key_generate()
    return private, public


def sign(private: bytes, public: bytes, message: bytes) -> bytes:
    """r ‖ s over the message, bound to the signer's identity and public key.

    Raises:
        Failed: `key.sm2` when the extra is not installed.
    """
    require()
    r, s = decode_dss_signature(gmssl_pyx.sm2_sign(private, public, message, signer_id=IDENTITY))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether that key signed the message; anything that is no key or no signature did not.

    Raises:
        Failed: `key.sm2` when the extra is not installed: nobody can say then.
    """
    require()
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < ORDER and 0 < s < ORDER):
        return False
    try:
        return gmssl_pyx.sm2_verify(public, message, encode_dss_signature(r, s), signer_id=IDENTITY) is True
    except gmssl_pyx.GmsslInnerError:
        return False  # no point of the curve


def to_pem(private: bytes, public: bytes) -> bytes:
    """The key pair as an unencrypted PKCS#8 PEM file, as OpenSSL writes and reads it."""
    text = base64.b64encode(PKCS8_HEAD + private + PKCS8_MIDDLE + public).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([PEM_HEAD, *lines, PEM_TAIL, ""]).encode()


def from_pem(pem: bytes) -> tuple[bytes, bytes] | None:
    """The key pair of such a file; None when it is a file of another kind.

    Raises:
        Failed: `key.unreadable` when its two halves do not belong together; `key.sm2` when the extra is missing.
    """
    lines = pem.decode("ascii", "replace").split()
    try:
        der = base64.b64decode("".join(lines[3:-3]), validate=True)
    except ValueError:
        return None
    private, middle, public = der[len(PKCS8_HEAD) :][:32], der[len(PKCS8_HEAD) + 32 :][:6], der[len(PKCS8_HEAD) + 38 :]
    is_sm2 = der.startswith(PKCS8_HEAD) and middle == PKCS8_MIDDLE and len(public) == PUBLIC_BYTES
    if not is_sm2:
        return None
    require()
    try:
        belongs = is_signed(public, PEM_HEAD.encode(), sign(private, public, PEM_HEAD.encode()))
    except gmssl_pyx.GmsslInnerError:
        belongs = False
    if not belongs:
        raise Failed("key.unreadable")
    return private, public


def require() -> None:
    """Raise Failed(`key.sm2`) unless the extra is installed."""
    if not AVAILABLE:
        raise Failed("key.sm2")
