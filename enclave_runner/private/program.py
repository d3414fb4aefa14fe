"""The serving zygote's program: import and compile everything that a worker may need, then wait for orders.

The worker's root is empty and its memory never becomes executable, so a module that is not imported here and a kernel
that is not compiled here do not exist for a task. Everything is therefore used once, over made-up values.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401
import os
import socket

import numpy as np

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.dataset import Column, ColumnType, KeyKind
from enclave_runner.contract.protocols import oprf
from enclave_runner.contract.protocols.cell import YES
from enclave_runner.contract.protocols.lattice import SEED_BYTES, question_bytes
from enclave_runner.he import proof
from enclave_runner.jail.zygote import serve
from enclave_runner.kinds import engine
from enclave_runner.private import hint, matrix, plain
from enclave_runner.private.asks import Bucket, Evaluate, Judge, Lookup, Open, frame, unframe
from enclave_runner.private.evaluate import cells_of
from enclave_runner.private.serve import HiddenTable, Server
from enclave_runner.private.tasks import SECRET_BYTES, Serving, Subject
from enclave_runner.private.work import work


def main(orders: int) -> None:
    """Serve the supervisor's orders on that descriptor until it hangs up."""
    engine.open_ahead()
    proof.prepare()
    rehearse()
    serve(socket.socket(fileno=orders), work)


def rehearse() -> None:
    """A whole product over one made-up row: built, and asked in every way that takes another library."""
    subject = Subject(
        check=Check(dataset_id="none", attribute="none", kind=CheckKind.EXISTS, modes=(VerificationMode.PLAIN,)),
        key_kind=KeyKind.OPAQUE,
        columns=(Column(name="none", title="", type=ColumnType.TEXT),),
        secret=bytes(SECRET_BYTES),
    )
    digests = np.frombuffer(plain.digest_of("x", subject.secret), "<u8").reshape(1, 2)
    key = oprf.new_key()
    cells = np.frombuffer(cells_of(bytes(32) + YES.to_bytes(2, "little"), key, "none"), matrix.RECORD)
    placed = matrix.place(cells, matrix.shape_of(1, 1))
    hint.hint_rows(placed.matrix[:1], bytes(SEED_BYTES))
    descriptor = os.memfd_create("rehearsal", os.MFD_CLOEXEC)
    try:
        plain.write(descriptor, digests, np.ones(1, plain.CODE), np.ones(1, np.uint8))
        table = plain.PlainTable(descriptor, subject)
    finally:
        os.close(descriptor)
    hidden = HiddenTable(placed.matrix, key, placed.shape.bucket_columns)
    server = Server(Serving(subject=subject, opening_secret=bytes(SECRET_BYTES)), table, hidden)
    question = bytes(question_bytes(placed.shape.columns))
    asks = (Judge(asked=(("x", ""),)), Open(caller="x"), Bucket(number=0), Lookup(question=question))
    for ask in (*asks, Evaluate(elements=(oprf.blind(b"x").element,))):
        server.answer(unframe(frame(ask)[4:]))
