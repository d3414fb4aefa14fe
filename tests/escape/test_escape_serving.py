"""The serving worker against a malicious client: what one call tells, points, lengths, openings, randomness."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

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
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.protocols import equality, group, oprf, threshold
from enclave_runner.contract.protocols.canonical import keyword
from enclave_runner.jail.launcher import Zygote
from enclave_runner.private.worker import ServingWorker
from tests.support.malicious_client import (
    NOT_POINTS,
    Learned,
    choose_between,
    first_opening,
    offline_dictionary,
    open_more_cells,
    read_bucket,
    read_four_columns,
    table_of,
    two_guesses_in_one,
)
from tests.support.served import INCOME, Served, a_check, people, served
from tests.support.tally import TALLY

ROWS, CALLER = 3000, "biz-bank"


@dataclass
class BesideUs:
    """A serving worker as a caller meets it, with no limits around it."""

    worker: ServingWorker
    served: Served
    product_id: str = "product"

    @property
    def version(self) -> str:
        return self.served.version

    @property
    def check(self) -> Check:
        return self.served.check

    @property
    def table(self) -> Table | None:
        return self.served.public

    def ask(self, ask: Ask, call_id: bytes) -> Answer:
        """What the supervisor would put to the worker."""
        bound = equality.context(self.product_id, self.version, call_id)
        match ask:
            case EqualityAsk():
                evaluated, tag, known = self.worker.equality(bound, ask.subject, ask.blinded)
                return EqualityAnswer(evaluated=evaluated, tag=tag, known=known)
            case OpeningAsk():
                opening, point = self.worker.opening(CALLER)
                return OpeningAnswer(opening=opening, point=point)
            case ThresholdAsk():
                return ThresholdAnswer(cells=self.worker.threshold(CALLER, ask.subject, ask.opening, ask.choice, bound))
            case EvaluationAsk():
                evaluated_points, proof = self.worker.evaluate(ask.blinded)
                return EvaluationAnswer(evaluated=evaluated_points, proof=proof)
            case BucketAsk():
                return BucketAnswer(cells=self.worker.bucket(ask.bucket))
            case LookupAsk():
                return LookupAnswer(reply=self.worker.lookup(ask.question))
        raise AssertionError(ask)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """The enclave's own serving zygote."""
    with Zygote("enclave_runner.private") as running:
        yield running


@pytest.fixture(scope="module")
def district(zygote: Zygote) -> Iterator[BesideUs]:
    """Whose district is it? In P1, P3 and P4."""
    with served(a_check(CheckKind.EQUALS), people(ROWS)) as built:
        worker = built.worker(zygote)
        yield BesideUs(worker, built)
        worker.close()


@pytest.fixture(scope="module")
def member(zygote: Zygote) -> Iterator[BesideUs]:
    """Who lives in the north? In P3 and P4."""
    with served(a_check(CheckKind.MEMBER, says_unknown=True), people(ROWS)) as built:
        worker = built.worker(zygote)
        yield BesideUs(worker, built)
        worker.close()


@pytest.fixture(scope="module")
def income(zygote: Zygote) -> Iterator[BesideUs]:
    """Who earns at least so much? In P2."""
    with served(a_check(CheckKind.AT_LEAST), people(60, INCOME)) as built:
        worker = built.worker(zygote)
        yield BesideUs(worker, built)
        worker.close()


def test_what_a_malicious_client_learns_of_one_call(
    district: BesideUs, member: BesideUs, income: BesideUs, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [keyword(f"p{number}") for number in range(1, 400)]
    learned: list[Learned] = [
        two_guesses_in_one(district, "p0", ("north", "south")),
        offline_dictionary(district, "p0", "south", ("north", "east", "west")),
        open_more_cells(income, "p7", first_opening(income)),
        choose_between(income, "p7", first_opening(income)),
        read_bucket(member, keyword("p0"), others),
        read_four_columns(member, keyword("p0"), others),
    ]
    with capsys.disabled():
        print(f"\n{table_of(learned)}")
    assert [row for row in learned if not row.is_within] == []
    assert [row.bits for row in learned if row.mode in ("P3", "P4")] == [pytest.approx(1.585, abs=0.001)] * 2
    assert learned[0].bits == 0  # neither guess, although one of them is right
    assert learned[2].bits == 1  # the cell that it chose: the attack's own control


@pytest.mark.parametrize("what", NOT_POINTS)
def test_no_point_is_refused_and_the_next_ask_is_answered(
    district: BesideUs, income: BesideUs, member: BesideUs, what: str
) -> None:
    point = NOT_POINTS[what]
    opening = first_opening(income)
    asks: dict[str, Callable[[], object]] = {
        "P1": lambda: district.worker.equality(b"c", "p0", point),
        "P2": lambda: income.worker.threshold(CALLER, "p0", opening.opening, point, b"c"),
        "P3": lambda: member.worker.evaluate([point]),
        "among others": lambda: member.worker.evaluate([oprf.blind(b"a").element, point, oprf.blind(b"b").element]),
    }
    for ask in asks.values():
        with pytest.raises(Refused, match=r"verification\.point"):
            ask()
    assert member.worker.evaluate([oprf.blind(b"x").element])
    TALLY.count("IN")


@pytest.mark.parametrize("subject", ["p7", "nobody"])
def test_a_refusal_of_a_point_does_not_tell_who_is_on_record(
    district: BesideUs, income: BesideUs, subject: str
) -> None:
    with pytest.raises(Refused, match=r"verification\.point"):
        district.worker.equality(b"c", subject, bytes(32))
    opening = first_opening(income)
    for multiple in (1, 2, len(income.check.edges)):
        # B = j·A: the shared point of cell j is the identity. Refused for each cell that there is, whoever it is about.
        choice = group.multiply(group.small_scalar(multiple), opening.point)
        with pytest.raises(Refused, match=r"verification\.point"):
            income.worker.threshold(CALLER, subject, opening.opening, choice, b"c")


def test_an_opening_is_its_callers_its_workers_and_whole(income: BesideUs) -> None:
    opening = first_opening(income)
    choice, _ = threshold.choose(opening.point, 0, b"c")
    flipped = [
        opening.opening[:at] + bytes([opening.opening[at] ^ 1]) + opening.opening[at + 1 :]
        for at in range(len(opening.opening))
    ]
    foreign = threshold.open(secrets.token_bytes(32), CALLER, 2.0e9)[0]
    for bad in (*flipped, foreign, b"", opening.opening[:-1], opening.opening + b"\0", bytes(56)):
        with pytest.raises(Refused, match=r"verification\.opening"):
            income.worker.threshold(CALLER, "p7", bad, choice, b"c")
    with pytest.raises(Refused, match=r"verification\.opening"):
        income.worker.threshold("biz-other", "p7", opening.opening, choice, b"c")
    assert income.worker.threshold(CALLER, "p7", opening.opening, choice, b"c")


def test_what_has_another_length_is_refused(member: BesideUs) -> None:
    assert member.table is not None
    right = 4 * member.table.columns
    for length in (0, 1, right - 4, right - 1, right + 1, right + 4, 1 << 20):
        with pytest.raises(Refused, match=r"verification\.question"):
            member.worker.lookup(bytes(length))
    buckets = member.table.columns // member.table.bucket_columns
    for number in (buckets, buckets + 1, 1 << 32):
        with pytest.raises(Refused, match=r"verification\.bucket"):
            member.worker.bucket(number)
    assert len(member.worker.lookup(bytes(right))) == 4 * member.table.height


def test_a_mode_that_a_product_has_not_does_not_answer(income: BesideUs, district: BesideUs) -> None:
    """The supervisor refuses it before; the worker has nothing to answer with."""
    with pytest.raises(Failed):
        income.worker.bucket(0)
    with pytest.raises(Failed):
        income.worker.lookup(b"")
    assert income.worker.is_alive
    assert district.worker.is_alive


def test_workers_of_one_zygote_draw_their_own_randomness(zygote: Zygote) -> None:
    """The same task twice: a nonce of a proof that two workers share would give the OPRF key away."""
    element = oprf.blind(keyword("p0")).element
    with served(a_check(CheckKind.EQUALS), people(40)) as built:
        workers = [built.worker(zygote) for _ in range(2)]
        try:
            proofs = [worker.evaluate([element]) for worker in (*workers, *workers)]
            answers = [worker.equality(b"c", "p0", element) for worker in (*workers, *workers)]
        finally:
            for worker in workers:
                worker.close()
    assert len({evaluated for evaluated, _ in proofs}) == 1  # one key
    assert len({proof for _, proof in proofs}) == 4  # four nonces
    assert len({evaluated for evaluated, _, _ in answers}) == 4  # four times a fresh k


def test_openings_of_two_workers_differ_and_serve_each_other(zygote: Zygote) -> None:
    """A worker that took over answers the second move of a first move at its predecessor."""
    with served(a_check(CheckKind.AT_LEAST), people(40, INCOME)) as built:
        first, second = built.worker(zygote), built.worker(zygote)
        try:
            opening, point = first.opening(CALLER)
            assert second.opening(CALLER)[0] != opening
            choice, pad = threshold.choose(point, 0, b"c")
            cells = second.threshold(CALLER, "p7", opening, choice, b"c")
        finally:
            first.close()
            second.close()
    assert threshold.read(pad, 0, cells) == 1


def test_the_same_question_twice_leaves_nothing_behind(district: BesideUs) -> None:
    """k is of one call: the same point asked again gives other bytes, so that two answers cannot be combined."""
    call = equality.context("product", district.version, b"c" * 16)
    _, element = equality.blind(call, b"x" * 32)
    first, second = (district.worker.equality(call, "p0", element) for _ in range(2))
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_one_mode_of_a_product_is_no_way_into_another(member: BesideUs) -> None:
    """An evaluation under P3 gives the output that P4 needs: they are one table, one key and one price."""
    outputs: list[bytes] = []
    for mode in (VerificationMode.BUCKET, VerificationMode.LOOKUP):
        blinded = oprf.blind(keyword("p1"))
        answer = member.ask(EvaluationAsk(mode=mode, blinded=(blinded.element,)), b"c" * 16)
        assert isinstance(answer, EvaluationAnswer)
        assert member.table is not None
        outputs += oprf.finalize([blinded], answer.evaluated, answer.proof, member.table.public_key)
    assert outputs[0] == outputs[1]
