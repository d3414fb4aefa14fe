"""One reading of a source through a jailed worker: bytes in by one pipe, columns out by another, none on any disk.

    handed file ──feed──▶ pipe ─▶ (unpacking worker ─▶ pipe) ─▶ intake worker ─▶ pipe ──take──▶ draft, encrypted

Pipes are short, so whoever is ahead waits. Each end has one owner, who closes it: that is what ends the others when one
of them fails. All threads have ended when `read_through` returns.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import termios
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.wire import FileFormat
from enclave_runner.jail.launcher import MemoryFile, seal_memory
from enclave_runner.jail.profile import JOB_UID
from enclave_runner.kinds.frames import DUPLICATES, HEADER, MAX_PAYLOAD
from enclave_runner.kinds.source import GZIP_MAGIC, HEAD_BYTES
from enclave_runner.kinds.tasks import Declined, Done, Intake, IntakeAnswer, TaskAnswer, Unpacking
from enclave_runner.rawdata.store import Draft
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.limits import Limits

PIECE = 1 << 20
FRAMING = 1 << 20  # what a column's file may hold beside its values: schema, footer
MAX_DUPLICATES = 256 << 20  # 33 million row numbers


@dataclass(frozen=True)
class Source:
    """A handed file, or its copy in sealed memory; read from `start` on. `head` is read once and stands for its part of
    the file from then on, whatever the file's owner writes there: the header that is checked is the one that is read.
    """

    descriptor: int
    start: int
    head: bytes
    max_bytes: int
    sha256: str | None  # of the copy; a file that is streamed is hashed as it goes

    @property
    def is_packed(self) -> bool:
        """Whether it is gzip."""
        return self.sha256 is None and self.head.startswith(GZIP_MAGIC)

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, in order.

        Raises:
            Refused: `import.too-large`; `import.format` when it cannot be read.
        """
        offset, piece = self.start, self.head
        while piece:
            offset += len(piece)
            if offset - self.start > self.max_bytes:
                raise Refused("import.too-large", max=self.max_bytes)
            yield piece
            piece = self._piece(offset)

    def _piece(self, offset: int) -> bytes:
        try:
            return os.pread(self.descriptor, PIECE, offset)
        except OSError:
            raise Refused("import.format") from None


@contextmanager
def open_source(descriptor: int, kind: FileFormat, limits: Limits) -> Iterator[Source]:
    """The handed regular file as a source. Parquet is read back and forth, so it is copied into memory, once.

    Raises:
        Refused: `import.too-large`, `import.parquet-large`, `import.format`.
    """
    try:
        start = os.lseek(descriptor, 0, os.SEEK_CUR)
        size, head = os.fstat(descriptor).st_size - start, os.pread(descriptor, HEAD_BYTES, start)
    except OSError:  # a pipe, a folder
        raise Refused("import.format") from None
    file = Source(descriptor, start, head, limits.import_bytes, None)
    if size > limits.import_bytes:
        raise Refused("import.too-large", max=limits.import_bytes)
    if kind is FileFormat.CSV:
        yield file
        return
    if size > limits.parquet_bytes:
        raise Refused("import.parquet-large", max=limits.parquet_bytes)
    copy = os.memfd_create("source", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        hashed = hashlib.sha256()
        for piece in Source(descriptor, start, head, limits.parquet_bytes, None).pieces():
            hashed.update(piece)
            _write_all(copy, piece)
        seal_memory(copy)
        yield Source(copy, 0, head, limits.parquet_bytes, hashed.hexdigest())
    finally:
        os.close(copy)


@dataclass(frozen=True)
class Reading:
    """What one reading gave: the worker's answer and the SHA-256 of what was read."""

    answer: IntakeAnswer
    sha256: str


def read_through(
    enclave: Enclave, task: Intake, source: Source, draft: Draft, duplicates: int, left_out: int | None
) -> Reading:
    """Fill the draft from the source; row numbers of duplicates go into the memory `duplicates`.

    Raises:
        Refused: `import.header` by the intake worker; `import.format` by either, or when not all was read.
        Failed: `job.frames` and `job.answer` for an output or an answer that no honest worker makes, the launcher's
            codes, `rawdata.write`.
    """
    profile = enclave.limits.import_profile
    cap = enclave.limits.import_bytes + FRAMING * len(task.columns)
    answer: TaskAnswer | Failed
    with ThreadPoolExecutor(3) as pool, ExitStack() as ours:
        entry, feeding, unpacking = _enter(ours, pool, enclave, source)
        read, write = os.pipe()
        ours.callback(os.close, write)
        taking = pool.submit(_take, read, draft, len(task.columns), duplicates, cap)
        head = ours.enter_context(MemoryFile(source.head))
        handed = [entry, head.descriptor, write, *([] if left_out is None else [left_out])]
        try:
            answer = enclave.work(task, handed, profile)
        except Failed as failed:
            answer = failed
        left = _waiting(entry) if feeding else 0
    whole = taking.result()
    if isinstance(answer, Failed):
        raise answer
    if isinstance(answer, Declined):
        raise _refusal(answer, task.spec)
    sha256 = feeding.result() if feeding else source.sha256
    unpacked = unpacking.result() if unpacking else Done()
    if isinstance(unpacked, Declined):
        raise _refusal(unpacked, None)
    if not isinstance(answer, IntakeAnswer) or not isinstance(unpacked, Done):
        raise Failed("job.answer")
    if not whole:
        raise Failed("job.frames")
    if sha256 is None or left:
        raise Refused("import.format")
    return Reading(answer, sha256)


def _refusal(declined: Declined, spec: DatasetSpec | None) -> Refused | Failed:
    """What a worker may decline by: the format, or one column of the header that it was told. Its words are not used
    otherwise."""
    if declined.rule == "import.format" and not declined.facts:
        return Refused("import.format")
    if spec is not None and declined.rule == "import.header" and declined.facts.keys() == {"column"}:
        column = declined.facts["column"]
        # Before the first wrong column stand right ones, each once.
        if spec.column(column) or column in {f"#{place}" for place in range(1, len(spec.columns) + 2)}:
            return Refused("import.header", column=column)
    return Failed("job.answer")


Feeding = tuple[int, "Future[str | None] | None", "Future[TaskAnswer] | None"]


def _enter(ours: ExitStack, pool: ThreadPoolExecutor, enclave: Enclave, source: Source) -> Feeding:
    """The descriptor that the intake worker reads, and the threads that fill it."""
    if source.sha256 is not None:
        return source.descriptor, None, None
    with ExitStack() as unowned:
        pipes = [_pipe(unowned) for _ in range(2 if source.is_packed else 1)]
        entry = pipes[-1][0]
        if os.geteuid() == 0:
            os.fchown(entry, JOB_UID, JOB_UID)  # DuckDB opens its descriptor once more, by name
        unowned.pop_all()  # from here on each end has its owner
    ours.callback(os.close, entry)
    feeding = pool.submit(_feed, source, pipes[0][1])
    if not source.is_packed:
        return entry, feeding, None
    return entry, feeding, pool.submit(_unpack, enclave, pipes[0][0], pipes[1][1])


def _pipe(owner: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        owner.callback(os.close, end)
    return ends


def _feed(source: Source, pipe: int) -> str | None:
    """Push the source into the pipe; its hash, or nothing when the reader has left before the end."""
    hashed = hashlib.sha256()
    try:
        for piece in source.pieces():
            hashed.update(piece)
            _write_all(pipe, piece)
    except BrokenPipeError:
        return None
    finally:
        os.close(pipe)
    return hashed.hexdigest()


def _unpack(enclave: Enclave, packed: int, plain: int) -> TaskAnswer:
    try:
        return enclave.work(Unpacking(), [packed, plain], enclave.limits.import_profile)
    finally:
        os.close(packed)
        os.close(plain)


def _take(pipe: int, draft: Draft, columns: int, duplicates: int, cap: int) -> bool:
    """Hand every frame to the draft; whether the last one was whole. On an error the pipe closes, which ends the
    worker."""
    total = extra = 0
    with open(pipe, "rb", buffering=PIECE) as file:
        while header := file.read(HEADER.size):
            frame = _frame(header, file)
            if frame is None:
                return False
            index, payload = frame
            if index == DUPLICATES:
                extra += len(payload)
                _write_all(duplicates, payload)
            elif index < columns:
                total += len(payload)
                draft.write(index, payload)
            else:
                raise Failed("job.frames")
            if total > cap or extra > MAX_DUPLICATES:
                raise Failed("job.frames")
    return True


def _frame(header: bytes, file: BinaryIO) -> tuple[int, bytes] | None:
    if len(header) < HEADER.size:
        return None
    index, length = HEADER.unpack(header)
    if not 0 < length <= MAX_PAYLOAD:
        raise Failed("job.frames")
    payload = file.read(length)
    return (index, payload) if len(payload) == length else None


def _waiting(pipe: int) -> int:
    """How many bytes nobody has read."""
    (number,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))
    return int(number)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
