"""The protocol figures: both are ratios of work that was done, whatever the machine."""

from __future__ import annotations

from benchmarks.verification.protocols import protocol_checks


def test_both_goals_are_measured_against_their_own_floor() -> None:
    checks = protocol_checks(rows=300, answers=100, rounds=3)
    assert [(check.name, check.goal) for check in checks] == [
        ("P1 answer", "<= 2.5"),
        ("P3/P4 table build", "<= 1.3"),
    ]
    # Whatever the machine does: an answer holds the two multiplications of its floor, so it is no tenth of them.
    assert all(check.value is not None and check.value > 0.1 for check in checks)
