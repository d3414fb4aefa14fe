"""An append-only Merkle tree (RFC 6962, section 2) and its signed checkpoints (C2SP tlog-checkpoint, signed note).

The enclave's receipt log and the control plane's audit log are both such trees; each carries the other's checkpoints,
so
that neither can be rewritten or cut alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.signing import Algorithm, PublicKey, Signer, is_signed

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier(Value, frozen=True):
    """The right edge of a tree: enough to append and to know the root, in O(log n) space.

    `peaks` are the roots of the perfect subtrees, largest first, one for each bit set in `size`.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, entry: bytes) -> Frontier:
        """The frontier with one more entry."""
        peaks, node, size = list(self.peaks), leaf_hash(entry), self.size
        while size & 1:
            node, size = node_hash(peaks.pop(), node), size >> 1
        return Frontier(size=self.size + 1, peaks=(*peaks, node))

    @property
    def root(self) -> bytes:
        """The Merkle tree hash."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def frontier_of(entries: Iterable[bytes]) -> Frontier:
    """The frontier after appending every entry in order."""
    frontier = Frontier()
    for entry in entries:
        frontier = frontier.append(entry)
    return frontier


def _split(size: int) -> int:
    """The largest power of two below `size` (size > 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _root(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    middle = _split(len(hashes))
    return node_hash(_root(hashes[:middle]), _root(hashes[middle:]))


def inclusion_proof(entries: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The audit path of entry `index` (RFC 6962, 2.1.1), deepest sibling first."""

    def path(hashes: Sequence[bytes], position: int) -> tuple[bytes, ...]:
        if len(hashes) == 1:
            return ()
        middle = _split(len(hashes))
        if position < middle:
            return (*path(hashes[:middle], position), _root(hashes[middle:]))
        return (*path(hashes[middle:], position - middle), _root(hashes[:middle]))

    if not 0 <= index < len(entries):
        raise IndexError("no such entry")
    return path([leaf_hash(entry) for entry in entries], index)


def is_included(entry: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that `entry` is entry `index` of the tree of `size` entries with that root."""
    if not 0 <= index < size:
        return False
    node, position, last = leaf_hash(entry), index, size - 1
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and node == root


class Checkpoint(Value, frozen=True):
    """A tree head: which log, how many entries, which root."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin or self.size < 0 or len(self.root) != 32:
            raise ValueError("a checkpoint has an origin, a size and a 32-byte root")

    @property
    def text(self) -> str:
        """The signed body of the note: three lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> str:
    """The checkpoint as a signed note: body, blank line, `— origin base64(key hash ‖ signature)`."""
    mark = _key_hash(checkpoint.origin, signer.public_key) + signer.sign(checkpoint.text.encode())
    return f"{checkpoint.text}\n— {checkpoint.origin} {base64.b64encode(mark).decode()}\n"


def open_checkpoint(note: str, origin: str, key: PublicKey) -> Checkpoint:
    """Verify a signed note.

    Raises:
        Refused: `checkpoint.invalid` when form, origin or signature do not fit.
    """
    try:
        body, mark_line = note.split("\n\n", 1)
        name, size, root = body.split("\n")
        dash, signer_name, mark = mark_line.removesuffix("\n").split(" ")
        checkpoint = Checkpoint(origin=name, size=int(size), root=base64.b64decode(root, validate=True))
        raw = base64.b64decode(mark, validate=True)
        if (dash, signer_name, name, raw[:4]) != ("—", origin, origin, _key_hash(origin, key)):
            raise ValueError("another signer")
        # Numbers and base64 can be written in more than one way; a note is written in one.
        if body + "\n" != checkpoint.text or base64.b64encode(raw).decode() != mark:
            raise ValueError("another spelling")
        if not is_signed(key, checkpoint.text.encode(), raw[4:]):
            raise ValueError("another signature")
    except ValueError:
        raise Refused("checkpoint.invalid", what=origin) from None
    return checkpoint


def _key_hash(name: str, key: PublicKey) -> bytes:
    """The note's 4-byte key hash. The note format numbers Ed25519 as 0x01; SM2 has a name of ours behind 0xff."""
    kind = b"\x01" if key.algorithm == Algorithm.ED25519.value else b"\xffyunei/" + key.algorithm.encode() + b"\n"
    return hashlib.sha256(name.encode() + b"\n" + kind + key.raw).digest()[:4]
