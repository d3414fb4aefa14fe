"""One product, one truth: whatever the rows and the question, all modes answer what the check says of the row."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.protocols import canonical, cell, equality, oprf, threshold
from enclave_runner.contract.protocols.cell import CANNOT_SAY, LEVEL, NO, YES, absent_code
from enclave_runner.private.asks import Bucket, Choose, Equal, Judge, Open
from enclave_runner.private.serve import Server
from tests.support.private_tables import HIDDEN, VERSION, Tables, check_of, column_of, subject_of, tables_of

COLUMN = column_of(ColumnType.INTEGER)
CONTEXT = equality.context("product", VERSION, bytes(16))
P1, P2 = VerificationMode.EQUALITY, VerificationMode.THRESHOLD
VALUES = st.one_of(st.none(), st.integers(-3, 3))
ROWS = st.dictionaries(st.sampled_from("abcdef"), VALUES, max_size=6)
EDGES = st.lists(st.integers(-3, 3), min_size=1, max_size=4, unique=True).map(lambda found: tuple(sorted(found)))
MEMBERS = st.lists(st.integers(-3, 3).map(str), min_size=1, max_size=3, unique=True).map(tuple)


@st.composite
def checks(draw: st.DrawFn) -> Check:
    """A check of any kind, with every mode that fits it."""
    kind, says_unknown = draw(st.sampled_from(list(CheckKind))), draw(st.booleans())
    match kind:
        case CheckKind.AT_LEAST:
            return check_of(kind, (VerificationMode.PLAIN, P2), edges=draw(EDGES), says_unknown=says_unknown)
        case CheckKind.EQUALS:  # with `says_unknown` a hidden subject's wrong claim reads like nobody: not offered here
            hidden = () if says_unknown else HIDDEN[1:]
            return check_of(kind, (VerificationMode.PLAIN, P1, *hidden), says_unknown=says_unknown)
        case CheckKind.LEVEL:
            return check_of(kind, HIDDEN, edges=draw(EDGES), says_unknown=says_unknown)
        case CheckKind.MEMBER:
            return check_of(kind, HIDDEN, members=draw(MEMBERS), says_unknown=says_unknown)
    return check_of(kind, HIDDEN, says_unknown=says_unknown)


def truth(check: Check, value: int | None, claim: int) -> int:
    """What the check's own words say, without the code under test."""
    if value is None:
        return CANNOT_SAY if check.says_unknown else LEVEL if check.kind is CheckKind.LEVEL else NO
    match check.kind:
        case CheckKind.EQUALS:
            return YES if value == claim else NO
        case CheckKind.AT_LEAST:
            return YES if value >= claim else NO
        case CheckKind.MEMBER:
            return YES if value in {int(member) for member in check.members} else NO
        case CheckKind.LEVEL:
            return LEVEL + len([edge for edge in check.edges if edge <= value])
    return YES


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(checks(), ROWS, st.integers(-3, 3), st.booleans())
def test_all_modes_answer_the_same(check: Check, rows: dict[str, int | None], claim: int, is_stale: bool) -> None:
    with tables_of(subject_of(check, COLUMN), list(rows.items())) as tables:
        server = tables.server()
        for subject in "abcx":
            value = rows.get(subject)
            expected = truth(check, None if is_stale else value, claim)
            assert by_judging(server, subject, claim, is_stale) == expected
            if P1 in check.modes:
                assert by_equality(server, check, subject, claim, is_stale) == expected
            if P2 in check.modes:
                for index, edge in enumerate(check.edges):
                    told = by_threshold(server, subject, index, is_stale)
                    assert told == truth(check, None if is_stale else value, edge)
            if tables.shape is not None:
                assert by_bucket(server, tables, subject, claim) == truth(check, value, claim)


def by_judging(server: Server, subject: str, claim: int, is_stale: bool) -> int:
    """P0."""
    return int.from_bytes(server.answer(Judge(asked=((subject, str(claim)),), is_stale=is_stale)), "little")


def by_equality(server: Server, check: Check, subject: str, claim: int, is_stale: bool) -> int:
    """P1."""
    scalar, blinded = equality.blind(CONTEXT, canonical.claim_digest(str(claim)))
    said = server.answer(Equal(context=CONTEXT, subject=subject, blinded=blinded, is_stale=is_stale))
    is_equal = equality.is_equal(CONTEXT, scalar, said[:32], said[32:48])
    assert said[48] or check.says_unknown
    return CANNOT_SAY if not said[48] else YES if is_equal else NO


def by_threshold(server: Server, subject: str, index: int, is_stale: bool) -> int:
    """P2."""
    said = server.answer(Open(caller="caller"))
    opening, point = said[: threshold.OPENING_BYTES], said[threshold.OPENING_BYTES :]
    choice, pad = threshold.choose(point, index, CONTEXT)
    ask = Choose(caller="caller", subject=subject, opening=opening, choice=choice, context=CONTEXT, is_stale=is_stale)
    return threshold.read(pad, index, server.answer(ask))


def by_bucket(server: Server, tables: Tables, subject: str, claim: int) -> int:
    """P3, with the evaluation done directly: what is not found is what the check says of nobody."""
    check, hidden = tables.task.subject.check, tables.task.hidden
    assert isinstance(check, Check)
    assert hidden is not None
    claimed = canonical.claim_digest(str(claim)) if check.kind is CheckKind.EQUALS else None
    output = oprf.evaluate_directly(hidden.key, canonical.keyword(subject, claimed))
    column = cell.entry(output, VERSION).column(hidden.columns)
    label = cell.find(server.answer(Bucket(number=column // hidden.bucket_columns)), output, VERSION)
    return absent_code(check) if label is None else cell.code_of(label)
