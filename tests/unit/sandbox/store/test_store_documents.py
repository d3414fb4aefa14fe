from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.exc import IntegrityError

from enclave_runner.contract.codec import encode
from enclave_runner.contract.grant import PURPOSE, Purpose
from enclave_runner.contract.signing import KeyFile, seal
from sandbox.domain.consent import Consent
from sandbox.domain.grant import GrantRecord, GrantStatus
from sandbox.domain.party import PartyStatus, Role
from sandbox.domain.submission import Review, Submission, SubmissionStatus, Verdict
from sandbox.store import consents, schema, submissions
from sandbox.store.consents import CONSENTS
from sandbox.store.database import open_engine, reading, sqlite_url, upgrade, writing
from sandbox.store.datasets import DATASETS, add_version, current_version, file_entry
from sandbox.store.grants import GRANTS
from sandbox.store.parties import PARTIES
from sandbox.store.products import PRODUCTS
from sandbox.store.scenarios import SCENARIOS
from sandbox.store.submissions import REVIEWS, Filing
from tests.support.bureau import (
    BANK,
    COUNT,
    DEPARTMENT,
    OPERATOR,
    PAID,
    PRODUCT,
    START,
    dataset,
    paid_grant,
    party,
    product,
    scenario,
)
from tests.support.refusals import refused_by

SUBMISSION = Submission(
    submission_id="s-1",
    grant_id=PAID,
    operator_id=OPERATOR,
    requester_id=BANK,
    product_id=PRODUCT,
    job=COUNT,
    input_sha256="a" * 64,
    status=SubmissionStatus.ADMITTED,
    submitted_at=START,
    purpose=Purpose.INDUSTRY,
    columns=("insured",),
)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A database with one value of every kind."""
    engine = open_engine(sqlite_url(tmp_path / "control.db"))
    upgrade(engine)
    officer = KeyFile.create(tmp_path / "officer.key")
    with writing(engine) as connection:
        for party_id, role in ((DEPARTMENT, Role.DEPARTMENT), (OPERATOR, Role.OPERATOR), (BANK, Role.BUSINESS)):
            PARTIES.add(connection, party(party_id, role))
        DATASETS.add(connection, dataset())
        SCENARIOS.add(connection, scenario("credit", Purpose.INDUSTRY, (BANK,)))
        record = GrantRecord(paid_grant(), GrantStatus.SIGNED, seal(paid_grant(), PURPOSE, officer))
        GRANTS.add(connection, record)
        PRODUCTS.add(connection, product())
        CONSENTS.add(connection, Consent("c-1", "f" * 64, BANK, PRODUCT, Purpose.INDUSTRY, START))
        submissions.add(connection, Filing(SUBMISSION, ("insurance",), f"{BANK}/clerk", 2))
        REVIEWS.add(connection, Review("s-1", "bureau/a", Verdict.APPROVE, "理由", START))
    return engine


def test_every_kind_of_value_comes_back_as_it_was(engine: Engine) -> None:
    with reading(engine) as connection:
        assert PARTIES.get(connection, OPERATOR) == party(OPERATOR, Role.OPERATOR)
        assert DATASETS.get(connection, "insurance") == dataset()
        assert SCENARIOS.get(connection, "credit") == scenario("credit", Purpose.INDUSTRY, (BANK,))
        assert GRANTS.get(connection, PAID).grant == paid_grant()
        assert PRODUCTS.get(connection, PRODUCT) == product()
        assert CONSENTS.get(connection, "c-1") == Consent("c-1", "f" * 64, BANK, PRODUCT, Purpose.INDUSTRY, START)
        assert submissions.filing(connection, "s-1") == Filing(SUBMISSION, ("insurance",), f"{BANK}/clerk", 2)
        assert REVIEWS.get(connection, "s-1", "bureau/a").ground == "理由"


def test_the_consent_of_a_question_is_kept_with_its_filing(engine: Engine) -> None:
    filing = Filing(replace(SUBMISSION, submission_id="s-2"), ("insurance",), f"{BANK}/clerk", 0, "c-1")
    with writing(engine) as connection:
        submissions.add(connection, filing)
        assert submissions.filing(connection, "s-2") == filing
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(update(submissions.TABLE).values(consent_id="c-2"))


@pytest.mark.parametrize(
    "change",
    [{"status": "suspended"}, {"party_id": "somebody"}, {"doc": encode(party(BANK, Role.BUSINESS)) + b" "}],
    ids=["status", "party_id", "doc"],
)
def test_a_row_that_another_hand_wrote_is_told_from_ours(engine: Engine, change: dict[str, object]) -> None:
    with reading(engine) as connection:
        assert PARTIES.unaltered(connection) == PARTIES.listed(connection)
    with writing(engine) as connection:
        PARTIES.add(connection, party("last", Role.BUSINESS))
        connection.execute(update(PARTIES.table).where(PARTIES.table.c.party_id == "last").values(change))
    with reading(engine) as connection, refused_by("wire.malformed", what="party"):
        PARTIES.unaltered(connection)


def test_a_key_is_taken_once(engine: Engine) -> None:
    with refused_by("record.exists", what="party"), writing(engine) as connection:
        PARTIES.add(connection, party(OPERATOR, Role.BUSINESS))
    with reading(engine) as connection:
        assert PARTIES.get(connection, OPERATOR).role is Role.OPERATOR


def test_one_verdict_per_reviewer(engine: Engine) -> None:
    with refused_by("record.exists", what="review"), writing(engine) as connection:
        REVIEWS.add(connection, Review("s-1", "bureau/a", Verdict.REJECT, "另", START))


def test_what_is_not_there_is_unknown_and_not_quoted(engine: Engine) -> None:
    with reading(engine) as connection:
        assert PARTIES.find(connection, "nobody") is None
        with refused_by("record.unknown", what="party") as _:
            PARTIES.get(connection, "990001199001011234")
        with refused_by("record.unknown", what="submission"):
            submissions.filing(connection, "s-2")


def test_saving_replaces_the_value_and_its_columns(engine: Engine) -> None:
    changed = replace(party(OPERATOR, Role.OPERATOR), status=PartyStatus.SUSPENDED)
    with writing(engine) as connection:
        PARTIES.save(connection, changed)
    with reading(engine) as connection:
        suspended = PARTIES.listed(connection, schema.parties.c.status == "suspended")
        assert suspended == (changed,)
        assert len(PARTIES.listed(connection)) == 3


def test_a_catalogue_entry_is_filed_once_and_then_replaced(engine: Engine) -> None:
    with writing(engine) as connection:
        file_entry(connection, replace(dataset(), title="新名称"))
    with reading(engine) as connection:
        assert [entry.title for entry in DATASETS.listed(connection)] == ["新名称"]


def test_the_newest_version_is_the_current_one(engine: Engine) -> None:
    with writing(engine) as connection:
        assert current_version(connection, "insurance") is None
        assert add_version(connection, "insurance", "v-2", "t")
        assert add_version(connection, "insurance", "v-1", "t")
        assert not add_version(connection, "insurance", "v-2", "t")
        assert current_version(connection, "insurance") == "v-1"


def test_submissions_are_seen_by_requester_and_operator(engine: Engine) -> None:
    with reading(engine) as connection:
        assert submissions.seen_by(connection, BANK) == submissions.seen_by(connection, OPERATOR) == (SUBMISSION,)
        assert submissions.seen_by(connection, DEPARTMENT) == ()
        assert submissions.count(connection, SubmissionStatus.ADMITTED) == 1
        assert submissions.dispatched(connection) == ()


def test_consents_are_found_by_all_three_of_their_names(engine: Engine) -> None:
    with reading(engine) as connection:
        assert len(consents.about(connection, "f" * 64, BANK, PRODUCT)) == 1
        assert consents.about(connection, "e" * 64, BANK, PRODUCT) == ()
        assert consents.about(connection, "f" * 64, OPERATOR, PRODUCT) == ()
        assert consents.about(connection, "f" * 64, BANK, "other") == ()
