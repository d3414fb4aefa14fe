"""What a verification product may ask, and what it may not say it asks."""

from __future__ import annotations

from typing import Any

import pytest

from enclave_runner.contract.check import FITTING, Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused

P0, P1, P2, P3, P4, P5 = VerificationMode


def check(**changed: Any) -> Check:
    fields = {"dataset_id": "residents", "attribute": "city", "kind": CheckKind.EQUALS, "modes": (P0,), **changed}
    return Check(**fields)


@pytest.mark.parametrize(
    "changed",
    [
        {"modes": (P0, P1, P3, P4)},
        {"kind": CheckKind.AT_LEAST, "modes": (P0,)},
        {"kind": CheckKind.AT_LEAST, "modes": (P0, P2), "edges": (18, 60)},
        {"kind": CheckKind.MEMBER, "members": ("valid", "renewed"), "modes": (P0, P4), "says_unknown": True},
        {"kind": CheckKind.LEVEL, "edges": (-5, 0, 7), "modes": (P0, P3, P4), "max_age_days": 30},
        {"kind": CheckKind.EXISTS},
        {"says_unknown": True, "modes": (P0, P1)},
    ],
)
def test_a_check_survives_its_wire_form(changed: dict[str, Any]) -> None:
    made = check(**changed)
    assert decode(encode(made), Check) == made


@pytest.mark.parametrize(
    "changed",
    [
        {"dataset_id": "No Slug"},
        {"attribute": ""},
        {"modes": ()},
        {"modes": (P0, P0)},
        {"modes": (P2,)},
        {"modes": (P5,)},
        {"kind": CheckKind.AT_LEAST, "modes": (P4,)},
        {"kind": CheckKind.AT_LEAST, "modes": (P2,)},
        {"kind": CheckKind.AT_LEAST, "modes": (P0,), "edges": (1,)},
        {"kind": CheckKind.LEVEL},
        {"kind": CheckKind.LEVEL, "edges": (3, 3)},
        {"kind": CheckKind.LEVEL, "edges": tuple(range(251))},
        {"kind": CheckKind.MEMBER},
        {"kind": CheckKind.MEMBER, "members": ("a", "a")},
        {"members": ("a",)},
        {"max_age_days": 0},
        {"says_unknown": True, "modes": (P0, P4)},
    ],
)
def test_a_check_that_nobody_could_answer_does_not_exist(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check(**changed)


def test_a_malformed_check_is_refused_at_the_wire() -> None:
    with pytest.raises(Refused, match=r"wire\.malformed"):
        decode(encode(check()).replace(b'"P0"', b'"P5"'), Check)


@pytest.mark.parametrize(
    ("changed", "outcomes"),
    [
        ({}, 2),
        ({"says_unknown": True}, 3),
        ({"kind": CheckKind.LEVEL, "edges": (1, 2, 3)}, 4),
        ({"kind": CheckKind.LEVEL, "edges": (1, 2, 3), "says_unknown": True}, 5),
    ],
)
def test_outcomes_count_every_answer(changed: dict[str, Any], outcomes: int) -> None:
    assert check(**changed).outcomes == outcomes


def test_only_the_lookups_hide_the_subject() -> None:
    assert [mode for mode in VerificationMode if mode.hides_subject] == [P3, P4]
    assert set(FITTING) == {P0, P1, P2, P3, P4}
