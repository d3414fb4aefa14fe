"""A business that breaks the protocols to learn more than it pays for. Each attack says what it learned.

The attacks speak contract asks and answers, whoever answers them: a serving worker beside us, or the API.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from enclave_runner.contract.call import (
    Answer,
    Ask,
    BucketAnswer,
    BucketAsk,
    EqualityAnswer,
    EqualityAsk,
    EvaluationAnswer,
    EvaluationAsk,
    LookupAnswer,
    LookupAsk,
    OpeningAnswer,
    OpeningAsk,
    Table,
    ThresholdAnswer,
    ThresholdAsk,
)
from enclave_runner.contract.check import Check, VerificationMode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import cell, equality, group, oprf, threshold
from enclave_runner.contract.protocols.canonical import claim_digest

NOT_POINTS = {
    "the identity": bytes(32),
    "all ones": b"\xff" * 32,
    "a negative number": (1).to_bytes(32, "little"),
    "not canonical": (2**255 - 19 + 2).to_bytes(32, "little"),
    # RFC 9496, A.3
    "no square": bytes.fromhex("26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371"),
    "a negative product": bytes.fromhex("3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e"),
    "too short": bytes([8]) * 31,
    "too long": bytes([8]) * 33,
}


class Oracle(Protocol):
    """Whoever answers. A refusal is raised."""

    @property
    def product_id(self) -> str:
        """The product."""
        ...

    @property
    def version(self) -> str:
        """Its table version."""
        ...

    @property
    def check(self) -> Check:
        """Its question."""
        ...

    @property
    def table(self) -> Table | None:
        """What its offer tells of a hidden-subject table."""
        ...

    def ask(self, ask: Ask, call_id: bytes) -> Answer:
        """The answer to one call."""
        ...


@dataclass(frozen=True)
class Learned:
    """What an attack brought: bits of the platform's data, in how many calls, beside what these calls may tell."""

    mode: str
    attack: str
    calls: int
    bits: float
    bound: float

    @property
    def is_within(self) -> bool:
        """Whether it is no more than what was paid for."""
        return self.bits <= self.bound + 1e-9


def table_of(rows: Iterable[Learned]) -> str:
    """For people: what it learned against what it may learn."""
    lines = [f"{'mode':4}  {'attack':62}  {'calls':>5}  {'learned':>9}  {'may learn':>9}"]
    lines += [
        f"{row.mode:4}  {row.attack:62}  {row.calls:5}  {row.bits:6.2f} bit  {row.bound:6.2f} bit" for row in rows
    ]
    return "\n".join(lines)


def bits(check: Check) -> float:
    """What one answer tells at most."""
    return math.log2(check.outcomes)


def is_refused(oracle: Oracle, ask: Ask) -> str | None:
    """The rule by which it is refused, None when it is answered."""
    try:
        oracle.ask(ask, secrets.token_bytes(16))
    except Refused as refused:
        return refused.rule
    return None


# --- P1 ---------------------------------------------------------------------------------------------------------------


def two_guesses_in_one(oracle: Oracle, subject: str, claims: Sequence[str]) -> Learned:
    """P1: one blinded point made of two guesses, b₁·H(x₁) + b₂·H(x₂), whose answer is then tried against both."""
    call_id = secrets.token_bytes(16)
    bound_to = equality.context(oracle.product_id, oracle.version, call_id)
    made = [equality.blind(bound_to, claim_digest(claim)) for claim in claims]
    mixed = made[0][1]
    for _, element in made[1:]:
        mixed = group.add(mixed, element)
    answer = oracle.ask(EqualityAsk(subject=subject, blinded=mixed), call_id)
    assert isinstance(answer, EqualityAnswer)
    scalars = [scalar for scalar, _ in made]
    both = scalars[0]
    for scalar in scalars[1:]:
        both = group.scalar_product(both, scalar)
    confirmed = sum(equality.is_equal(bound_to, scalar, answer.evaluated, answer.tag) for scalar in (*scalars, both))
    return Learned("P1", f"{len(claims)} guesses in one blinded point", 1, float(confirmed), bits(oracle.check))


def offline_dictionary(oracle: Oracle, subject: str, claim: str, others: Sequence[str]) -> Learned:
    """P1: one honest question, and then its answer tried against every other value, offline, in every way at hand."""
    call_id = secrets.token_bytes(16)
    bound_to = equality.context(oracle.product_id, oracle.version, call_id)
    scalar, element = equality.blind(bound_to, claim_digest(claim))
    answer = oracle.ask(EqualityAsk(subject=subject, blinded=element), call_id)
    assert isinstance(answer, EqualityAnswer)
    told = {claim for _ in [0] if equality.is_equal(bound_to, scalar, answer.evaluated, answer.tag)}
    for other in others:
        # Its own blinding of another value: the right scalar for a point that was never sent.
        own, _ = equality.blind(bound_to, claim_digest(other))
        for tried in (own, group.scalar_product(own, group.invert(scalar)), group.scalar_product(own, scalar)):
            if equality.is_equal(bound_to, tried, answer.evaluated, answer.tag):
                told.add(other)
    surplus = len(told - {claim})
    return Learned(
        "P1",
        f"its one answer against {len(others)} other values offline",
        1,
        1.0 + surplus,
        bits(oracle.check),
    )


# --- P2 ---------------------------------------------------------------------------------------------------------------


def opened_cells(
    oracle: Oracle, subject: str, opening: OpeningAnswer, choice: bytes, secrets_of: Iterable[bytes]
) -> set[int]:
    """Which cells can be read with any of these points as the shared one."""
    call_id = secrets.token_bytes(16)
    bound_to = equality.context(oracle.product_id, oracle.version, call_id)
    answer = oracle.ask(ThresholdAsk(subject=subject, opening=opening.opening, choice=choice), call_id)
    assert isinstance(answer, ThresholdAnswer)
    points, opened = tuple(secrets_of), set()
    for index in range(len(oracle.check.edges)):
        for point in points:
            pad = threshold._pad(bound_to, opening.point, choice, index, point)
            try:
                threshold.read(pad, index, answer.cells)
            except Refused:
                continue
            opened.add(index)
    return opened


def open_more_cells(oracle: Oracle, subject: str, opening: OpeningAnswer) -> Learned:
    """P2: an honest choice, and every point that its maker can think of tried on every cell."""
    a, b, index = opening.point, group.random_scalar(), 1
    choice = group.add(group.base(b), group.multiply(group.small_scalar(index + 1), a))
    known = [group.multiply(b, a), a, choice, group.base(b), group.add(group.multiply(b, a), a)]
    known += [group.add(group.multiply(b, a), group.multiply(group.small_scalar(j), a)) for j in range(2, 6)]
    known += [group.multiply(b, choice), group.multiply(group.small_scalar(2), group.multiply(b, a)), group.IDENTITY]
    opened = opened_cells(oracle, subject, opening, choice, known)
    return Learned("P2", "every point it knows tried on every cell", 1, len(opened) * 1.0, bits(oracle.check))


def choose_between(oracle: Oracle, subject: str, opening: OpeningAnswer) -> Learned:
    """P2: a choice between two cells (half of A more than one, half less than the next), to read both."""
    half = group.invert(group.small_scalar(2))
    b, a = group.random_scalar(), opening.point
    between = group.multiply(group.scalar_product(group.small_scalar(3), half), a)
    choice = group.add(group.base(b), between)
    known = [group.multiply(b, a), group.multiply(group.scalar_product(b, half), a), group.add(a, group.base(b))]
    opened = opened_cells(oracle, subject, opening, choice, known)
    return Learned("P2", "a choice half way between two cells", 1, len(opened) * 1.0, bits(oracle.check))


# --- P3 and P4 --------------------------------------------------------------------------------------------------------


def evaluate(oracle: Oracle, mode: VerificationMode, words: Sequence[bytes]) -> tuple[bytes, ...]:
    """OPRF outputs: paid for."""
    assert oracle.table is not None
    blinded = [oprf.blind(word) for word in words]
    ask = EvaluationAsk(mode=mode, blinded=tuple(item.element for item in blinded))
    answer = oracle.ask(ask, secrets.token_bytes(16))
    assert isinstance(answer, EvaluationAnswer)
    return oprf.finalize(blinded, answer.evaluated, answer.proof, oracle.table.public_key)


def labels_in(cells: bytes, outputs: Iterable[bytes], version: str) -> int:
    """How many of these outputs open an entry, wherever it stands."""
    found = 0
    for output in outputs:
        try:
            found += cell.find(cells, output, version) is not None
        except Refused:
            continue
    return found


def guessed_outputs(output: bytes, words: Iterable[bytes]) -> list[bytes]:
    """Outputs for other keywords, as somebody would forge them who paid for one: none of them is right."""
    forged = [bytes(64), output[::-1], output[32:] + output[:32]]
    forged += [oprf.evaluate_directly(group.small_scalar(1), word) for word in words]
    return forged


def read_bucket(oracle: Oracle, word: bytes, words: Sequence[bytes]) -> Learned:
    """P3: one evaluation, its bucket, and everything else in the bucket tried without paying."""
    assert oracle.table is not None
    table = oracle.table
    (output,) = evaluate(oracle, VerificationMode.BUCKET, [word])
    number = cell.entry(output, oracle.version).column(table.columns) // table.bucket_columns
    answer = oracle.ask(BucketAsk(bucket=number), secrets.token_bytes(16))
    assert isinstance(answer, BucketAnswer)
    own = labels_in(answer.cells, [output], oracle.version)
    foreign = labels_in(answer.cells, guessed_outputs(output, words), oracle.version)
    each = bits(oracle.check)
    attack = f"{len(words)} other keywords tried on its bucket of {table.k} or more"
    return Learned("P3", attack, 2, (own + foreign) * each, each)


def read_four_columns(oracle: Oracle, word: bytes, words: Sequence[bytes]) -> Learned:
    """P4: no LWE question but the numbers 1, 2⁸, 2¹⁶, 2²⁴ in the clear at four columns: all four in one answer."""
    assert oracle.table is not None
    table = oracle.table
    (output,) = evaluate(oracle, VerificationMode.LOOKUP, [word])
    wanted = cell.entry(output, oracle.version).column(table.columns)
    places = [wanted, *[place for place in range(table.columns) if place != wanted][:3]]
    question = np.zeros(table.columns, "<u4")
    for power, place in enumerate(places):
        question[place] = 1 << (8 * power)
    answer = oracle.ask(LookupAsk(question=question.tobytes()), secrets.token_bytes(16))
    assert isinstance(answer, LookupAnswer)
    columns = np.frombuffer(answer.reply, np.uint8).reshape(table.height, 4).T
    read = columns.tobytes()
    own = labels_in(read, [output], oracle.version)
    foreign = labels_in(read, guessed_outputs(output, words), oracle.version)
    each = bits(oracle.check)
    attack = f"4 columns at once in the clear, {len(words)} other keywords tried"
    return Learned("P4", attack, 2, (own + foreign) * each, each)


def first_opening(oracle: Oracle) -> OpeningAnswer:
    """P2's first move."""
    answer = oracle.ask(OpeningAsk(), secrets.token_bytes(16))
    assert isinstance(answer, OpeningAnswer)
    return answer
