"""Whatever calls do to each other, guesses are exact: never past the limit, never lost, never counted for nothing."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.supervisor import guesses
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.guesses import GUESSES, OverLimitError, Scope, Tallies, Tally, write

LIMIT = 6
SCOPES = [Scope(GUESSES, "people", attribute, "v1") for attribute in ("city", "age")]
TALLIES = [Tally(scope, subject, caller) for scope in SCOPES for subject in (b"a", b"b") for caller in ("c1", "c2")]
ASKED = st.dictionaries(st.sampled_from(TALLIES), st.integers(1, 4), min_size=1, max_size=4)
# A call reserves; later it is committed, or comes to nothing; or the enclave is killed with all that are under way.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), ASKED),
        st.tuples(st.sampled_from(["commit", "fail"]), st.integers(0, 5)),
        st.tuples(st.just("kill"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_guesses_are_exact_under_any_interleaving_and_any_kill(steps: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        with closing(Database(path)) as database:
            database.create(guesses.SCHEMA)
            tallies = Tallies(path)
            durable: Counter[Tally] = Counter()
            running: list[dict[Tally, int]] = []
            for sequence, (step, what) in enumerate(steps):
                reserved = Counter(durable)
                for amounts in running:
                    reserved.update(amounts)
                if step == "ask":
                    assert isinstance(what, dict)
                    fits = all(reserved[tally] + amount <= LIMIT for tally, amount in what.items())
                    try:
                        tallies.reserve(what, LIMIT)
                    except OverLimitError as over:
                        assert not fits
                        assert over.left == LIMIT - reserved[over.tally]
                    else:
                        assert fits
                        running.append(what)
                elif step == "kill":
                    tallies.close()
                    tallies, running = Tallies(path), []
                elif running:
                    assert isinstance(what, int)
                    amounts = running.pop(what % len(running))
                    if step == "commit":
                        with database.transaction() as connection:
                            write(connection, [(amounts, sequence)])
                        durable.update(amounts)
                    tallies.release(amounts, is_durable=step == "commit")
            expected = Counter(durable)
            for amounts in running:
                expected.update(amounts)
            assert all(tallies.total(tally) == expected[tally] <= LIMIT for tally in TALLIES)
            tallies.close()
            with closing(Tallies(path)) as again:
                assert all(again.total(tally) == durable[tally] for tally in TALLIES)
