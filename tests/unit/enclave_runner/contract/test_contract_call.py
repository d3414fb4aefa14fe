"""Calls and their receipts: a commitment binds and hides, a batch shows its members and nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from enclave_runner.contract.call import (
    BATCH_PURPOSE,
    Asked,
    Call,
    CallBatch,
    CallReceipt,
    PlainAnswer,
    PlainAsk,
    SettledCall,
    commitment,
    open_settled,
)
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.merkle import frontier_of, inclusion_proof
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.signing import KeyFile, PublicKey, seal
from enclave_runner.contract.ticket import Charge

NOW = datetime(2026, 11, 25, tzinfo=UTC)
ASK = PlainAsk(asked=(Asked(subject="11010119900101001X", claim="Beijing"),))
ANSWER = PlainAnswer(verdicts=("yes",))


def receipt(sequence: int) -> CallReceipt:
    return CallReceipt(
        call_id=f"{sequence:032x}",
        sequence=sequence,
        ticket_id="t",
        product_id="p",
        grant_id="g",
        operator_id="o",
        caller_id="c",
        purpose=Purpose.INDUSTRY,
        mode=VerificationMode.PLAIN,
        outcome=Outcome.RELEASED,
        units=1,
        commitment=commitment(bytes(32), ASK, ANSWER),
        version="v",
        data_versions={"residents": "1"},
        policy_sha256="00",
        charge=Charge(tariff_id="verification-industry", unit_price_fen=50, legal_basis="35"),
        finished_at=NOW,
    )


@dataclass(frozen=True)
class Batch:
    key: KeyFile
    settled: tuple[SettledCall, ...]

    @property
    def trusted(self) -> tuple[PublicKey, ...]:
        return (self.key.public_key,)


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    key = KeyFile.create(tmp_path / "key")
    entries = [encode(receipt(10 + index)) for index in range(5)]
    made = CallBatch(
        number=3,
        first=10,
        count=5,
        root=frontier_of(entries).root.hex(),
        previous="ab",
        measurement_sha256="cd",
        finished_at=NOW,
    )
    signed = seal(made, BATCH_PURPOSE, key)
    paths = [inclusion_proof(entries, index) for index in range(5)]
    return Batch(key, tuple(SettledCall(receipt=e, path=p, batch=signed) for e, p in zip(entries, paths, strict=True)))


def test_every_receipt_of_a_batch_opens(batch: Batch) -> None:
    opened = [open_settled(settled, batch.trusted) for settled in batch.settled]
    assert [one.sequence for one, _ in opened] == [10, 11, 12, 13, 14]
    assert {two.number for _, two in opened} == {3}


def test_a_receipt_that_was_changed_or_moved_does_not_open(batch: Batch) -> None:
    one, two = batch.settled[:2]
    cheaper = encode(msgspec.structs.replace(decode(one.receipt, CallReceipt), units=0))
    elsewhere = encode(msgspec.structs.replace(decode(one.receipt, CallReceipt), sequence=9))
    for changed in (
        msgspec.structs.replace(one, receipt=cheaper),
        msgspec.structs.replace(one, receipt=elsewhere),
        msgspec.structs.replace(one, receipt=two.receipt),
        msgspec.structs.replace(one, path=two.path),
        msgspec.structs.replace(one, path=one.path[:-1]),
        msgspec.structs.replace(one, path=(*one.path, bytes(32))),
    ):
        with pytest.raises(Refused, match=r"call\.not-in-batch"):
            open_settled(changed, batch.trusted)


def test_only_the_trusted_key_signs_batches(batch: Batch, tmp_path: Path) -> None:
    stranger = KeyFile.create(tmp_path / "stranger")
    with pytest.raises(Refused, match=r"signature\.invalid"):
        open_settled(batch.settled[0], (stranger.public_key,))
    forged = seal(decode(batch.settled[0].batch.payload, CallBatch), "receipt", batch.key)
    with pytest.raises(Refused, match=r"signature\.invalid"):
        open_settled(msgspec.structs.replace(batch.settled[0], batch=forged), batch.trusted)


def test_a_root_that_is_no_root_is_refused(batch: Batch) -> None:
    odd = msgspec.structs.replace(decode(batch.settled[0].batch.payload, CallBatch), root="not hex")
    settled = msgspec.structs.replace(batch.settled[0], batch=seal(odd, BATCH_PURPOSE, batch.key))
    with pytest.raises(Refused, match=r"call\.not-in-batch"):
        open_settled(settled, batch.trusted)


def test_a_commitment_binds_salt_question_and_answer() -> None:
    other = PlainAsk(asked=(Asked(subject="11010119900101001X", claim="Baotou"),))
    made = {
        commitment(bytes(32), ASK, ANSWER),
        commitment(b"\1" + bytes(31), ASK, ANSWER),
        commitment(bytes(32), other, ANSWER),
        commitment(bytes(32), ASK, PlainAnswer(verdicts=("no",))),
        commitment(bytes(32), ASK, None),
    }
    assert len(made) == 5


@pytest.mark.parametrize("field", ["call_id", "salt"])
def test_a_call_has_an_id_and_a_salt_of_full_length(field: str) -> None:
    call = Call(call_id=bytes(16), salt=bytes(32), version="v", ask=ASK)
    assert decode(encode(call), Call) == call
    short = encode(msgspec.structs.replace(call, **{field: bytes(8)}))
    with pytest.raises(Refused, match=r"wire\.malformed"):
        decode(short, Call)


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_batch_of_questions_has_a_size(count: int) -> None:
    asked = tuple(Asked(subject="x") for _ in range(count))
    data = encode(Call(call_id=bytes(16), salt=bytes(32), version="v", ask=PlainAsk(asked=asked)))
    with pytest.raises(Refused, match=r"wire\.malformed"):
        decode(data, Call)
