"""A malicious business against every mode of an open product, over HTTP: what it learned beside what it may learn.

`pytest -s` prints the table. The limits are those of the policy pack; nothing of the platform is replaced.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from enclave_runner.contract.call import (
    Ask,
    Asked,
    BucketAsk,
    Call,
    EqualityAsk,
    EvaluationAsk,
    LookupAsk,
    OpeningAnswer,
    OpeningAsk,
    PlainAnswer,
    PlainAsk,
    ScoreAnswer,
    ScoreAsk,
    ThresholdAsk,
)
from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.ciphertext import Keys, Workbench, ring_of
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.packing import pack, unpack
from enclave_runner.contract.protocols import cell, oprf, threshold
from enclave_runner.contract.protocols.canonical import claim_digest, keyword
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.scoring import Model, ScoreCheck
from tests.support.malicious_client import (
    NOT_POINTS,
    Learned,
    choose_between,
    evaluate,
    first_opening,
    offline_dictionary,
    open_more_cells,
    read_bucket,
    read_four_columns,
    table_of,
    two_guesses_in_one,
)
from tests.support.verification_site import INCOME, Caller, Site, check, verification_site

pytestmark = pytest.mark.slow
EQUALS, AT_LEAST = "lives-in", "earns-at-least"
SNOOP, OTHER = "biz-0", "biz-1"
LEARNED: list[Learned] = []
RANGE = 1 << 23  # of incomes, in units of a fen: halves stay whole


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Open products of all modes, and three businesses."""
    with verification_site(tmp_path_factory.mktemp("snoop") / "home", EQUALS, AT_LEAST, "credit", more=2) as opened:
        opened.publish("earns-more", check(CheckKind.AT_LEAST, INCOME, "P0"))
        opened.open("earns-more")
        yield opened


@pytest.fixture(scope="module", autouse=True)
def _told() -> Iterator[None]:
    yield
    print(f"\n{table_of(LEARNED)}")


def fresh() -> bytes:
    """A call id."""
    return secrets.token_bytes(16)


def plain(caller: Caller, *asked: tuple[str, str]) -> tuple[str, ...]:
    """P0."""
    answer = caller.ask(PlainAsk(asked=tuple(Asked(subject=who, claim=claim) for who, claim in asked)), fresh())
    assert isinstance(answer, PlainAnswer)
    return answer.verdicts


def note(learned: Learned) -> Learned:
    """Into the table."""
    LEARNED.append(learned)
    return learned


def words(first: int, last: int) -> list[bytes]:
    """Keywords of people and the district in which they live."""
    return [keyword(f"p{i}", claim_digest(("north", "south")[i % 2])) for i in range(first, last)]


def budget(site: Site) -> float:
    """Bits about one subject and attribute, for one business and data version."""
    return float(site.world.office.pack.table("limits.toml")["verification"]["bits_per_subject"])


def bisect(caller: Caller, subject: str, most: int = 60) -> tuple[int, float]:
    """Ask for the middle of what is left until refused: how many answers, and how many bits they told."""
    low, high, answers = 0, RANGE, 0
    for _ in range(most):
        middle = (low + high) // 2
        try:
            (verdict,) = plain(caller, (subject, f"{middle / 100:.2f}"))
        except Refused as refused:
            assert refused.rule == "verification.exhausted"
            break
        answers += 1
        low, high = (middle, high) if verdict == "yes" else (low, middle)
    return answers, math.log2(RANGE / (high - low))


def test_bisection_ends_where_the_limit_ends_it(site: Site) -> None:
    answers, told = bisect(site.caller(AT_LEAST, SNOOP), "p7")
    assert note(Learned("P0", "bisection of one income until refused", answers, told, budget(site))).is_within
    assert answers == int(budget(site))
    assert bisect(site.caller(AT_LEAST, OTHER), "p7")[0] == answers  # another business is not locked out


def test_other_products_and_modes_share_the_limit(site: Site) -> None:
    """After the bisection: the same attribute through another product, and by oblivious transfer."""
    with pytest.raises(Refused, match=r"verification\.exhausted"):
        plain(site.caller("earns-more", SNOOP), ("p7", "1500.00"))
    caller = site.caller(AT_LEAST, SNOOP)
    opening = first_opening(caller)
    choice, _ = threshold.choose(opening.point, 0, b"")
    with pytest.raises(Refused, match=r"verification\.exhausted"):
        caller.ask(ThresholdAsk(subject="p7", opening=opening.opening, choice=choice), fresh())
    note(Learned("P2", "the same income by transfer and by another product, after that", 2, 0.0, 0.0))


@pytest.mark.parametrize("spellings", ["one", "many"])
def test_a_batch_about_one_subject_counts_every_question(site: Site, spellings: str) -> None:
    """Blanks around an identifier are no part of it: a subject in a hundred spellings is one subject."""
    caller, count, name = site.caller(AT_LEAST, SNOOP), 2 * int(budget(site)), f"p8{len(spellings)}"
    blank = " " if spellings == "many" else ""
    asked = [(f"{blank * (i % 30)}{name}{blank * (i // 30)}", f"{1000 + 10 * i}.00") for i in range(count)]
    with pytest.raises(Refused, match=r"verification\.exhausted"):
        plain(caller, *asked)
    note(Learned("P0", f"{count} thresholds in one batch, the subject in {spellings} spelling(s)", 1, 0.0, 0.0))
    assert caller.paid == 0
    answers, _ = bisect(caller, name)
    assert answers == int(budget(site))  # what was refused told nothing and has counted nothing


def test_calls_at_once_do_not_pass_the_limit_together(site: Site) -> None:
    caller, most = site.caller(AT_LEAST, SNOOP), int(budget(site))

    def one(number: int) -> bool:
        try:
            plain(caller, ("p9", f"{1000 + number}.00"))
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        answered = sum(pool.map(one, range(3 * most)))
    assert note(Learned("P0", f"{3 * most} questions about one income at once", answered, answered, most)).is_within
    assert answered == most


def test_a_call_id_is_good_for_one_call(site: Site) -> None:
    caller, call_id = site.caller(EQUALS, SNOOP), fresh()
    caller.ask(PlainAsk(asked=(Asked(subject="p20", claim="north"),)), call_id)
    for ask in (
        PlainAsk(asked=(Asked(subject="p21", claim="north"),)),
        PlainAsk(asked=(Asked(subject="p20", claim="south"),)),
        EqualityAsk(subject="p20", blinded=oprf.blind(b"x").element),
    ):
        with pytest.raises(Refused, match=r"call\.used"):
            caller.ask(ask, call_id)
    note(Learned("P0", "other questions under a call id that was paid for", 3, 0.0, 0.0))


def test_the_very_same_call_again_is_the_same_answer_unpaid(site: Site) -> None:
    caller = site.caller(EQUALS, SNOOP)
    ask = EqualityAsk(subject="p22", blinded=oprf.blind(b"x").element)
    call = Call(call_id=fresh(), salt=bytes(32), version=caller.version, ask=ask)
    first, second = caller.call(call), caller.call(call)
    assert first.content == second.content
    other = site.caller(EQUALS, OTHER).call(call)
    assert other.content != first.content  # nobody gets another's answer by knowing its call


def test_one_answer_is_one_guess(site: Site) -> None:
    caller = site.caller(EQUALS, SNOOP)
    none = note(two_guesses_in_one(caller, "p30", ("north", "south")))
    one = note(offline_dictionary(caller, "p31", "south", ("north", "east", "west")))
    assert (none.bits, one.bits) == (0.0, 1.0)
    assert caller.paid == 2


def test_one_transfer_is_one_cell(site: Site) -> None:
    caller = site.caller(AT_LEAST, SNOOP)
    opened = note(open_more_cells(caller, "p32", first_opening(caller)))
    between = note(choose_between(caller, "p32", first_opening(caller)))
    assert (opened.bits, between.bits) == (1.0, 0.0)
    again = first_opening(caller)
    assert isinstance(again, OpeningAnswer)
    twice = [open_more_cells(caller, subject, again) for subject in ("p33", "p34")]
    bits = sum(item.bits for item in twice)
    assert note(Learned("P2", "one opening used for two calls", 2, bits, 2.0)).is_within


def test_a_bucket_and_four_columns_tell_one_label(site: Site) -> None:
    caller = site.caller(EQUALS, SNOOP)
    for learned in (read_bucket(caller, words(40, 41)[0], words(41, 600)), read_four_columns(caller, *_split(601))):
        assert note(learned).is_within
        assert learned.bits == 1.0
    assert caller.paid == 2  # one evaluation each; the second moves are free


def _split(first: int) -> tuple[bytes, list[bytes]]:
    some = words(first, first + 500)
    return some[0], some[1:]


def test_second_moves_need_evaluations(site: Site) -> None:
    caller = site.caller(EQUALS, OTHER)
    table = caller.table
    assert table is not None
    for ask in (BucketAsk(bucket=0), LookupAsk(question=bytes(4 * table.columns))):
        with pytest.raises(Refused, match=r"verification\.moves"):
            caller.ask(ask, fresh())
    note(Learned("P3", "a bucket without an evaluation", 1, 0.0, 0.0))
    evaluate(caller, VerificationMode.BUCKET, words(50, 51))
    answered = 0
    for _ in range(8):
        try:
            caller.ask(BucketAsk(bucket=0), fresh())
        except Refused as refused:
            assert refused.rule == "verification.moves"
            break
        answered += 1
    assert answered == 4


def test_a_stolen_table_is_noise_without_evaluations(site: Site) -> None:
    """Bucket by bucket, for one evaluation: what it took still tells one label, and every guess costs one more."""
    caller = site.caller(EQUALS, "biz-0")
    table = caller.table
    assert table is not None
    (output,) = evaluate(caller, VerificationMode.BUCKET, words(60, 61))
    buckets = min(4, table.columns // table.bucket_columns)
    cells = b"".join(
        caller.ask(BucketAsk(bucket=number), fresh()).cells  # type: ignore[union-attr]
        for number in range(buckets)
    )
    own = cell.find(cells, output, caller.version)
    assert own == cell.label(cell.YES)
    wrong = sum(
        cell.find(cells, oprf.evaluate_directly(oprf.new_key(), word), caller.version) is not None
        for word in words(0, 200)
    )
    assert note(Learned("P3", f"{buckets} buckets, 200 keywords under keys of its own", 5, 1.0 + wrong, 1.0)).is_within


@pytest.mark.parametrize("bits", [0, 30])
def test_a_spoilt_ciphertext_tells_the_points_that_were_paid_for(site: Site, bits: int) -> None:
    """An error of 2^bits in one coefficient, all 4096 slots read, two of them paid for (the attack on r·(x - y))."""
    caller, subjects = site.caller("credit", SNOOP), ("p3", "p4")
    offer = caller.offer
    assert isinstance(offer.check, ScoreCheck)
    model, ring, bench = offer.check.model, ring_of(offer.check.model.parameters), Workbench()
    keys, slots = Keys(ring), offer.check.model.parameters.slots
    questions = [_spoilt(keys.encrypt([0] * slots), model, bits), keys.encrypt([0] * slots)]
    answer = caller.ask(ScoreAsk(subjects=subjects, key=keys.public, features=tuple(questions)), fresh())
    assert isinstance(answer, ScoreAnswer)
    told = [round(slot) - 50 for slot in keys.open(answer.scores, bench)]  # 50 is the public intercept
    bench.close()
    expected = [min(max((1000 + int(name[1:])) * 100 + 50, 1000_00), 1500_00) // 50 for name in subjects]
    assert told[:2] == expected
    assert set(told[2:]) == {0}  # the slots of nobody say nothing, whatever the error
    each = math.log2(offer.check.outcomes)
    points = math.log2(offer.check.terms[0].cells)
    attack = f"an error of 2^{bits} in a ciphertext, {slots} slots read, 2 paid for"
    assert note(Learned("P5", attack, 1, 2 * points, 2 * each)).is_within
    assert caller.paid == 2


def _spoilt(question: bytes, model: Model, bits: int) -> bytes:
    primes, degree = model.parameters.data_primes, model.parameters.degree
    words = unpack(question, 2, degree, primes)
    for limb, prime in enumerate(primes):
        words[limb * degree] = (int(words[limb * degree]) + (2**bits if bits else 0)) % prime
    return pack(words, 2, degree, primes)


def test_a_ciphertext_of_the_wrong_form_is_refused_and_costs_one_request(site: Site) -> None:
    caller = site.caller("credit", SNOOP)
    offer = caller.offer
    assert isinstance(offer.check, ScoreCheck)
    parameters = offer.check.model.parameters
    keys = Keys(ring_of(parameters))
    good, garbage = keys.encrypt([1] * parameters.slots), secrets.token_bytes
    cases = {
        "empty": (keys.public, (b"", b"")),
        "short": (keys.public, (good, good[:-1])),
        "long": (keys.public, (good, good + b"\0")),
        "one": (keys.public, (good,)),
        "three": (keys.public, (good, good, good)),
        "beyond the primes": (keys.public, (good, b"\xff" * len(good))),
        "no key": (b"", (good, good)),
        "a key beyond the primes": (b"\xff" * len(keys.public), (good, good)),
        "garbage": (garbage(len(keys.public)), (garbage(len(good)), garbage(len(good)))),
    }
    for what, (key, features) in cases.items():
        ask = ScoreAsk(subjects=("p50", "p51"), key=key, features=features)
        with pytest.raises(Refused, match=r"scoring\.(length|ciphertext)"):
            caller.ask(ask, fresh())
        assert caller.paid == 0, what
    assert caller.ask(ScoreAsk(subjects=("p50", "p51"), key=keys.public, features=(good, good)), fresh())


@pytest.mark.parametrize("what", [name for name, point in NOT_POINTS.items() if len(point) == 32])
def test_no_point_is_refused_unpaid_and_uncounted(site: Site, what: str) -> None:
    point, equals, at_least = NOT_POINTS[what], site.caller(EQUALS, OTHER), site.caller(AT_LEAST, OTHER)
    opening = first_opening(at_least)
    for _ in range(2 * int(budget(site))):  # far beyond the limit, were it counted
        with pytest.raises(Refused, match=r"verification\.point"):
            equals.ask(EqualityAsk(subject="p70", blinded=point), fresh())
    with pytest.raises(Refused, match=r"verification\.point"):
        at_least.ask(ThresholdAsk(subject="p70", opening=opening.opening, choice=point), fresh())
    with pytest.raises(Refused, match=r"verification\.point"):
        equals.ask(EvaluationAsk(mode=VerificationMode.LOOKUP, blinded=(point,)), fresh())
    assert (equals.paid, at_least.paid) == (0, 0)
    assert {receipt.outcome for receipt in equals.receipts} == {Outcome.REFUSED}
    assert plain(equals, ("p70", "north")) == ("yes",)


def test_a_mode_that_is_not_offered_is_refused(site: Site) -> None:
    equals, at_least = site.caller(EQUALS, SNOOP), site.caller(AT_LEAST, SNOOP)
    point = oprf.blind(b"x").element
    cases: list[tuple[Caller, Ask]] = [
        (equals, OpeningAsk()),
        (equals, ThresholdAsk(subject="p1", opening=b"", choice=point)),
        (at_least, EqualityAsk(subject="p1", blinded=point)),
        (at_least, EvaluationAsk(mode=VerificationMode.LOOKUP, blinded=(point,))),
        (equals, EvaluationAsk(mode=VerificationMode.PLAIN, blinded=(point,))),
        (at_least, BucketAsk(bucket=0)),
        (at_least, LookupAsk(question=b"")),
    ]
    for caller, ask in cases:
        with pytest.raises(Refused, match=r"call\.mode"):
            caller.ask(ask, fresh())


def test_refused_calls_of_one_lock_out_no_other(site: Site) -> None:
    """A ticket's cap is shared: what one business is refused must not use it up for the others."""
    site.publish("small", check(CheckKind.EXISTS, INCOME, "P0"))
    site.open("small", calls=30)
    snoop, bank = site.caller("small", SNOOP), site.caller("small", OTHER)
    for _ in range(40):
        try:
            snoop.ask(PlainAsk(asked=(Asked(subject="p1", claim="no claim fits"),)), fresh())
        except Refused as refused:
            assert refused.rule in ("call.claim", "call.cap", "call.unpaid")
    assert plain(bank, ("p1", "")) == ("yes",)


def test_receipts_of_others_are_not_shown(site: Site) -> None:
    bank = site.caller(EQUALS, OTHER)
    page = bank.client.get("/v1/calls", headers=bank.headers).json()
    assert {receipt["caller_id"] for receipt in page["receipts"]} <= {OTHER}


def test_no_identifier_stands_in_a_receipt_or_in_the_audit_log(site: Site) -> None:
    caller, subject = site.caller(EQUALS, SNOOP), "canary-4711"
    assert plain(caller, (subject, "north")) == ("no",)
    told = site.client.get("/v1/calls", headers=caller.headers).text
    stored = b"".join(path.read_bytes() for path in site.world.home.folder.rglob("*") if path.is_file())
    assert subject not in told
    assert subject.encode() not in stored


def test_an_attack_learned_no_more_than_it_paid_for() -> None:
    assert [row for row in LEARNED if not row.is_within] == []
