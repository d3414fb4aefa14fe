"""A serving worker as its supervisor holds it: one ask at a time, a deadline for each, replies of a known length.

A reply is bytes of exactly the length that the ask decides, and numbers in it are held to what the check can say. A
worker that says anything else, or nothing in time, is closed and asked no more.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from enclave_runner.contract.check import Check, CheckKind
from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.protocols.cell import CANNOT_SAY, LEVEL, NO, YES
from enclave_runner.contract.protocols.equality import TAG_BYTES
from enclave_runner.contract.protocols.group import POINT_BYTES
from enclave_runner.contract.protocols.lattice import reply_bytes
from enclave_runner.contract.protocols.oprf import PROOF_BYTES
from enclave_runner.contract.protocols.threshold import CELL_BYTES, OPENING_BYTES
from enclave_runner.jail.launcher import Held, Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.private.asks import (
    ANSWERED,
    BROKEN,
    POINTS_BYTES,
    REFUSED,
    RULES,
    Ask,
    Bucket,
    Choose,
    Equal,
    Evaluate,
    Judge,
    Lookup,
    Open,
    Points,
    frame,
)
from enclave_runner.private.tasks import Hidden, Serving

ASK_SECONDS = 10.0
PIECE = 1 << 20


def _anything(said: bytes) -> bool:
    """A reply of which every value may be: pseudorandom bytes."""
    return True


class ServingWorker:
    """One running worker. Its methods may be called from several threads; they wait for each other.

    Each raises, beside what it names:
        Failed: `serving.gone` when the worker has ended or was closed (nothing was answered), `serving.deadline`,
            `serving.answer` for a reply that no honest worker makes (it is closed then), `serving.fault` for an ask
            that the worker could not finish (it goes on).
    """

    def __init__(self, held: Held, task: Serving, ask_seconds: float) -> None:
        self._held, self._task, self._seconds = held, task, ask_seconds
        self._turn = threading.Lock()

    @classmethod
    def start(
        cls,
        zygote: Zygote,
        profile: JailProfile,
        task: Serving,
        descriptors: Sequence[int],
        ask_seconds: float = ASK_SECONDS,
    ) -> ServingWorker:
        """Start one over sealed memory: the plain table, and the matrix where the task has a hidden part.

        The descriptors stay the caller's, who may close them. `ask_seconds` is the deadline of one ask, without the
        wait for its turn.

        Raises:
            Failed: `jail.absent`, `jail.zygote-gone`.
        """
        return cls(zygote.hold(encode(task), list(descriptors), profile), task, ask_seconds)

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._held.is_alive

    def close(self) -> None:
        """End it after the ask that it is at; whoever still waits for a turn fails with `serving.gone`."""
        with self._turn:
            self._held.close()

    def judge(self, asked: Iterable[tuple[str, str]], is_stale: bool = False) -> tuple[int, ...]:
        """P0: a code (`protocols.cell`) for each subject and claim. `is_stale`: the data are too old to say.

        Raises:
            Refused: `verification.claim-form` when a claim is none of the attribute.
        """
        ask = Judge(asked=tuple(asked), is_stale=is_stale)
        shape, allowed = struct.Struct(f"<{len(ask.asked)}H"), self._allowed()
        said = self._ask(ask, shape.size, lambda said: allowed.issuperset(shape.unpack(said)))
        return shape.unpack(said)

    def equality(
        self, context: bytes, subject: str, blinded: bytes, is_stale: bool = False
    ) -> tuple[bytes, bytes, bool]:
        """P1: the evaluated point (32 bytes), the tag (16), and whether anything is known (True unless the check says
        unknown).

        Raises:
            Refused: `verification.point`.
        """
        ask = Equal(context=context, subject=subject, blinded=blinded, is_stale=is_stale)
        allowed = b"\0\1" if self._check().says_unknown else b"\1"
        said = self._ask(ask, POINT_BYTES + TAG_BYTES + 1, lambda said: said[-1] in allowed)
        return said[:POINT_BYTES], said[POINT_BYTES:-1], said[-1] == 1

    def opening(self, caller: str) -> tuple[bytes, bytes]:
        """P2, first move: the opening, which is that caller's for a minute, and the point."""
        said = self._ask(Open(caller=caller), OPENING_BYTES + POINT_BYTES)
        return said[:OPENING_BYTES], said[OPENING_BYTES:]

    def threshold(
        self, caller: str, subject: str, opening: bytes, choice: bytes, context: bytes, is_stale: bool = False
    ) -> bytes:
        """P2, second move: a masked cell of 8 bytes for each edge.

        Raises:
            Refused: `verification.point`, `verification.opening`.
        """
        ask = Choose(caller=caller, subject=subject, opening=opening, choice=choice, context=context, is_stale=is_stale)
        return self._ask(ask, CELL_BYTES * len(self._check().edges))

    def evaluate(self, elements: Sequence[bytes]) -> tuple[tuple[bytes, ...], bytes]:
        """P3 and P4, first move: the evaluated points and one proof for all (64 bytes).

        Raises:
            Refused: `verification.point`.
        """
        end = POINT_BYTES * len(elements)
        said = self._ask(Evaluate(elements=tuple(elements)), end + PROOF_BYTES)
        return tuple(said[start : start + POINT_BYTES] for start in range(0, end, POINT_BYTES)), said[end:]

    def bucket(self, number: int) -> bytes:
        """P3, second move: the columns of that bucket, one after the other.

        Raises:
            Refused: `verification.bucket` when there is none of that number.
        """
        hidden = self._hidden()
        return self._ask(Bucket(number=number), hidden.bucket_columns * hidden.height)

    def lookup(self, question: bytes) -> bytes:
        """P4, second move: matrix times question modulo 2³², 4 bytes (little-endian) for each row.

        Raises:
            Refused: `verification.question` when it has not 4 bytes for each column.
        """
        return self._ask(Lookup(question=question), reply_bytes(self._hidden().height))

    def points(self, subjects: Sequence[str]) -> tuple[bytes, tuple[bool, ...]]:
        """P5: the platform's points, 8 bytes (little-endian, signed) for each subject and 0 of the unknown, and which
        of them are known. For the scoring worker alone: they leave the enclave only under encryption."""
        end = POINTS_BYTES * len(subjects)
        ask = Points(subjects=tuple(subjects))
        said = self._ask(ask, end + len(subjects), lambda said: not said[end:].strip(b"\0\1"))
        return said[:end], tuple(byte == 1 for byte in said[end:])

    def _check(self) -> Check:
        check = self._task.subject.check
        if not isinstance(check, Check):
            raise Failed("serving.ask")
        return check

    def _hidden(self) -> Hidden:
        if self._task.hidden is None:
            raise Failed("serving.ask")
        return self._task.hidden

    def _allowed(self) -> set[int]:
        """The codes that the check can give."""
        check = self._check()
        is_level = check.kind is CheckKind.LEVEL
        said = {LEVEL + band for band in range(len(check.edges) + 1)} if is_level else {NO, YES}
        return said | ({CANNOT_SAY} if check.says_unknown else set())

    def _refusal(self, rule: str) -> Refused:
        """A rule that the worker named, with the facts that are public."""
        if rule != "verification.claim-form":
            return Refused(rule)
        column = self._task.subject.columns[0]
        return Refused(rule, type=column.type.value, scale=column.scale)

    def _ask(self, ask: Ask, length: int, is_proper: Callable[[bytes], bool] = _anything) -> bytes:
        """The reply's bytes after its state: `length` of them, or none at all."""
        asked = frame(ask)
        with self._turn:
            try:
                said = self._exchange(asked, length, time.monotonic() + self._seconds)
                if not is_proper(said):
                    raise Failed("serving.answer")
            except (OSError, ValueError):  # the connection is broken, or closed
                self._held.close()
                raise Failed("serving.gone") from None
            except Failed as failed:
                if failed.code != "serving.fault":
                    self._held.close()
                raise
        return said

    def _exchange(self, asked: bytes, length: int, deadline: float) -> bytes:
        connection = self._held.connection
        if not self._held.is_alive:
            raise Failed("serving.gone")
        if select.select([connection], [], [], 0)[0]:  # it speaks without being asked, or has hung up
            raise Failed("serving.answer" if connection.recv(1) else "serving.gone")
        _send(connection, asked, deadline)
        state = _receive(connection, 1, deadline)
        if state == ANSWERED:
            return _receive(connection, length, deadline)
        if state == REFUSED:
            (number,) = _receive(connection, 1, deadline)
            if number < len(RULES):
                raise self._refusal(RULES[number])
        raise Failed("serving.fault" if state == BROKEN else "serving.answer")


def _send(connection: socket.socket, data: bytes, deadline: float) -> None:
    view = memoryview(data)
    while view:
        connection.settimeout(_left(deadline))
        try:
            view = view[connection.send(view) :]
        except TimeoutError:
            raise Failed("serving.deadline") from None


def _receive(connection: socket.socket, count: int, deadline: float) -> bytes:
    said = bytearray()
    while len(said) < count:
        connection.settimeout(_left(deadline))
        try:
            part = connection.recv(min(count - len(said), PIECE))
        except TimeoutError:
            raise Failed("serving.deadline") from None
        if not part:
            raise Failed("serving.gone")
        said += part
    return bytes(said)


def _left(deadline: float) -> float:
    """The seconds that are left; more than none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise Failed("serving.deadline")
    return left
