"""Standing tickets: what opens and what does not, and that each opens once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.dataset import KeyKind
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Mode, Purpose, Scope
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.standing import PURPOSE as STANDING_PURPOSE
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.ticket import Charge
from enclave_runner.contract.wire import AskHint, AskOffer, AskProgress, CloseProduct, OfferReply
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.opening import open_product
from enclave_runner.supervisor.service import answer as door
from enclave_runner.supervisor.verification import ServingZygote
from tests.support.enclave_home import (
    PEOPLE,
    PEOPLE_CSV,
    Bureau,
    Site,
    changed,
    make_bureau,
    make_grant,
    running_site,
    with_enclave,
)
from tests.support.open_products import (
    Product,
    check_of,
    opened,
    sign_standing,
    standing_ticket,
)

P0, P1, P2 = VerificationMode.PLAIN, VerificationMode.EQUALITY, VerificationMode.THRESHOLD
P3, P4 = VerificationMode.BUCKET, VerificationMode.LOOKUP
CITY = check_of("city", CheckKind.EQUALS)
WEST = check_of("city", CheckKind.MEMBER, (P0, P3, P4), members=("西城",))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An enclave for what leaves no trace that another test would meet."""
    with running_site(make_bureau(tmp_path_factory.mktemp("opening"), k_min="64")) as running:
        running.import_csv(PEOPLE, PEOPLE_CSV)
        yield running


@pytest.fixture
def bureau(tmp_path: Path) -> Bureau:
    """A home of one's own."""
    return make_bureau(tmp_path, k_min="64", max_products="3")


def imported(site: Site) -> Site:
    site.import_csv(PEOPLE, PEOPLE_CSV)
    return site


def again(site: Site, product: Product) -> Product:
    """The same product in another run of the enclave."""
    return Product(site, product.ticket, product.offer)


# What opens


def test_an_offer_says_what_is_answered_and_is_signed(site: Site) -> None:
    product = opened(site, check_of("income", CheckKind.AT_LEAST, (P0, P2), edges=(100, 200)), product_id="offer")
    offer, held = product.offer, site.enclave.holdings.find("people")
    assert held is not None
    assert (offer.product_id, offer.ticket_id, offer.check) == ("offer", product.ticket.ticket_id, product.ticket.check)
    assert (offer.scale, offer.column_type, offer.key_kind) == (2, "decimal", "opaque")
    assert (offer.data_versions, offer.charge) == ({"people": held.version}, product.ticket.charge)
    assert offer.source_at.isoformat() == held.imported_at.split(".")[0] + "+00:00"
    assert (offer.expires_at, offer.table, len(offer.version)) == (product.ticket.expires_at, None, 32)
    reply = door(site.enclave, AskOffer(product_id="offer"), None)
    assert isinstance(reply, OfferReply)
    assert reply.offer == open_product(site.enclave, sign_standing(site, product.ticket)).offer  # asked again: the same


def test_an_offer_ends_with_its_grant(site: Site) -> None:
    deadline = utc_now().replace(microsecond=0) + timedelta(minutes=5)
    product = opened(site, CITY, make_grant(deadline=deadline), product_id="deadline")
    assert product.offer.expires_at == deadline
    late = Product(with_enclave(site, clock=lambda: deadline), product.ticket, product.offer)
    with pytest.raises(Refused, match=r"product\.not-open"):
        late.verdicts(("p1", "东城"))


def test_two_versions_share_no_secret(site: Site) -> None:
    first, second = (opened(site, WEST, product_id="secrets") for _ in range(2))
    assert first.offer.version != second.offer.version
    assert first.offer.table is not None
    assert second.offer.table is not None
    assert first.offer.table.public_key != second.offer.table.public_key
    assert first.offer.table.seed != second.offer.table.seed


# What does not open


def refusal(site: Site, ticket: StandingTicket) -> str:
    with pytest.raises(Refused) as refused:
        open_product(site.enclave, sign_standing(site, ticket))
    return refused.value.rule


NOW = utc_now().replace(microsecond=0)
HOUR = timedelta(hours=1)
CHARGE = Charge(tariff_id="verification-industry", unit_price_fen=0, legal_basis="free of charge")


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("ticket.policy", {"policy_sha256": "00" * 32}),
        ("ticket.charge", {"charge": CHARGE}),
        ("ticket.data-version", {"data_versions": {"people": "v9-000000000000"}}),
        ("ticket.data-version", {"data_versions": {}}),
        ("ticket.data-version", {"data_versions": {"people": "v1", "firms": "v1"}}),
        ("ticket.expired", {"issued_at": NOW - 2 * HOUR, "expires_at": NOW - HOUR}),
        ("ticket.expired", {"issued_at": NOW + HOUR, "expires_at": NOW + 2 * HOUR}),
        ("standing.life", {"expires_at": NOW + timedelta(days=401)}),
        ("standing.calls", {"calls": 10**9}),
    ],
)
def test_a_ticket_that_does_not_fit_opens_nothing(site: Site, rule: str, fields: dict[str, object]) -> None:
    assert refusal(site, standing_ticket(site, CITY, **fields)) == rule  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("grant.mode", {"modes": (Mode.QUERY, Mode.MODEL)}),
        ("grant.dataset", {"scopes": (Scope(dataset_id="firms", columns=("city",)),)}),
        ("grant.column", {"scopes": (Scope(dataset_id="people", columns=("age",)),)}),
        ("grant.expired", {"deadline": NOW - timedelta(seconds=1)}),
        ("grant.not-yet", {"not_before": NOW + timedelta(minutes=30)}),
    ],
)
def test_a_ticket_beyond_its_grant_opens_nothing(site: Site, rule: str, fields: dict[str, object]) -> None:
    assert refusal(site, standing_ticket(site, CITY, make_grant(**fields))) == rule


def test_free_of_charge_is_the_purpose_s_to_say(site: Site) -> None:
    grant = make_grant(purpose=Purpose.GOVERNANCE)
    paid = standing_ticket(site, CITY).charge
    assert refusal(site, standing_ticket(site, CITY, grant, charge=paid)) == "ticket.charge"


@pytest.mark.parametrize("what", ["ticket", "grant", "purpose"])
def test_what_nobody_trusted_has_signed_opens_nothing(site: Site, tmp_path: Path, what: str) -> None:
    stranger = KeyFile.create(tmp_path / "stranger.key")
    ticket = standing_ticket(site, CITY)
    if what == "grant":
        forged = seal(make_grant(), GRANT_PURPOSE, stranger)
        signed = sign_standing(site, msgspec.structs.replace(ticket, grant=forged))
    elif what == "purpose":
        signed = seal(ticket, "ticket", site.bureau.control)
    else:
        signed = seal(ticket, STANDING_PURPOSE, stranger)
    with pytest.raises(Refused, match=r"signature\.invalid"):
        open_product(site.enclave, signed)
    assert site.enclave.verification.standing.find(ticket.ticket_id) is None


@pytest.mark.parametrize(
    ("rule", "check"),
    [
        ("verification.attribute", check_of("wage")),
        ("verification.claim", check_of("city", CheckKind.AT_LEAST)),
        ("verification.claim", check_of("active", CheckKind.LEVEL, edges=(1,))),
        ("verification.claim-form", check_of("age", CheckKind.MEMBER, members=("young",))),
        ("verification.claim-form", check_of("joined", CheckKind.MEMBER, members=("2026-13-01",))),
        ("dataset.unknown", msgspec.structs.replace(CITY, dataset_id="firms")),
    ],
)
def test_a_check_that_does_not_fit_its_data_opens_nothing(site: Site, rule: str, check: object) -> None:
    columns = (*(item.name for item in PEOPLE.columns if item.name != "id"), "wage")
    scopes = (Scope(dataset_id="people", columns=columns), Scope(dataset_id="firms", columns=("city",)))
    grant = make_grant(scopes=scopes)
    assert refusal(site, standing_ticket(site, check, grant)) == rule  # type: ignore[arg-type]


def score(low: int, high: int, name: str = "age") -> ScoreCheck:
    model = Scorecard(features=(Feature(name="x", weight=1, low=0, high=1),))
    return ScoreCheck(dataset_id="people", model=model, terms=(Term(column=name, weight=1, low=low, high=high),))


def test_points_that_would_tell_too_much_open_nothing(site: Site) -> None:
    site_limits = site.enclave.limits
    tight = msgspec.structs.replace(
        site_limits, verification=msgspec.structs.replace(site_limits.verification, milli_bits_of_a_score=5000)
    )
    strict = with_enclave(site, limits=tight)
    assert refusal(strict, standing_ticket(strict, score(0, 100))) == "verification.score-bits"
    assert refusal(strict, standing_ticket(strict, score(0, 10, "city"))) == "verification.claim"


def test_too_few_rows_hide_nobody(bureau: Bureau) -> None:
    rows = PEOPLE_CSV.splitlines(keepends=True)
    with running_site(bureau) as site:
        site.import_csv(PEOPLE, "".join(rows[:50]))
        ticket = standing_ticket(site, WEST)
        assert refusal(site, ticket) == "verification.too-few"
        assert refusal(site, ticket) == "standing.closed"
        assert site.enclave.verification.tables.versions() == frozenset()
        opened(site, msgspec.structs.replace(WEST, modes=(P0, P4)))  # a lookup hides in a table of any size


@pytest.mark.parametrize(
    "fields", [{"unique": False, "rows_per_entity": 2}, {"key_kind": KeyKind.ROW, "entity_column": "row_number"}]
)
def test_without_one_row_for_each_subject_nothing_opens(bureau: Bureau, fields: dict[str, object]) -> None:
    spec = changed(PEOPLE, dataset_id="visits", **fields)
    check = msgspec.structs.replace(CITY, dataset_id="visits")
    grant = make_grant(scopes=(Scope(dataset_id="visits", columns=("city",)),))
    with running_site(bureau) as site:
        site.import_csv(spec, PEOPLE_CSV)
        assert refusal(site, standing_ticket(site, check, grant)) == "verification.many-rows"


def test_withheld_and_core_columns_open_nothing(bureau: Bureau) -> None:
    columns = tuple(
        msgspec.structs.replace(item, grade=4)
        if item.name == "age"
        else msgspec.structs.replace(item, withheld="法")
        if item.name == "income"
        else item
        for item in PEOPLE.columns
    )
    with running_site(bureau) as site:
        site.import_csv(changed(PEOPLE, columns=columns), PEOPLE_CSV)
        assert refusal(site, standing_ticket(site, check_of("age"))) == "dataset.core-grade"
        assert refusal(site, standing_ticket(site, check_of("income"))) == "dataset.withheld"


def test_only_so_many_products_are_open_at_once(bureau: Bureau) -> None:
    with running_site(bureau) as site:
        imported(site)
        products = [opened(site, CITY, product_id=f"p{number}") for number in range(3)]
        assert refusal(site, standing_ticket(site, CITY, product_id="p3")) == "standing.products"
        opened(site, CITY, product_id="p0")  # in the place of its own earlier version
        door(site.enclave, CloseProduct(ticket_id=products[1].ticket.ticket_id), None)
        opened(site, CITY, product_id="p3")


# Once


def test_a_ticket_id_stands_for_one_order(site: Site) -> None:
    product = opened(site, CITY, product_id="once")
    other = msgspec.structs.replace(product.ticket, calls=7)
    assert refusal(site, other) == "ticket.replayed"
    assert product.verdicts(("p3", "西城")) == ("yes",)


def test_an_earlier_ticket_does_not_come_back(site: Site) -> None:
    first = opened(site, CITY, product_id="back")
    second = opened(site, CITY, product_id="back")
    assert refusal(site, first.ticket) == "standing.closed"
    assert second.verdicts(("p3", "西城")) == ("yes",)


def test_an_older_order_that_comes_late_does_not_take_the_place_of_a_newer_one(site: Site) -> None:
    older = standing_ticket(site, CITY, product_id="late", issued_at=NOW - timedelta(minutes=2))
    newer = opened(site, CITY, product_id="late")
    assert refusal(site, older) == "standing.closed"
    assert newer.verdicts(("p3", "西城")) == ("yes",)


def test_a_version_whose_worker_does_not_start_does_not_take_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = opened(site, CITY, product_id="no-start")

    def absent(*arguments: object) -> None:
        raise Failed("jail.absent")

    with monkeypatch.context() as patched:
        patched.setattr(ServingZygote, "start", absent)
        with pytest.raises(Failed, match=r"jail\.absent"):
            opened(site, CITY, product_id="no-start")
    assert before.verdicts(("p3", "西城")) == ("yes",)


def test_a_ticket_that_was_closed_before_it_came_never_opens(site: Site) -> None:
    ticket = standing_ticket(site, CITY, product_id="early")
    door(site.enclave, CloseProduct(ticket_id=ticket.ticket_id), None)
    assert refusal(site, ticket) == "standing.closed"


def test_no_record_of_a_ticket_is_ever_removed_or_opened_again(site: Site) -> None:
    product = opened(site, CITY, product_id="record")
    door(site.enclave, CloseProduct(ticket_id=product.ticket.ticket_id), None)
    with closing(sqlite3.connect(site.bureau.home.ledger)) as raw:
        for statement in (
            "DELETE FROM standing",
            "UPDATE standing SET state = 'open' WHERE state = 'closed'",
            "UPDATE standing SET calls = calls - 1",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                raw.execute(statement)


def test_closing_ends_calls_tables_and_worker(site: Site) -> None:
    product = opened(site, WEST, product_id="closing")
    assert product.offer.version in site.enclave.verification.tables.versions()
    door(site.enclave, CloseProduct(ticket_id=product.ticket.ticket_id), None)
    for request in (
        AskOffer(product_id="closing"),
        AskHint(product_id="closing", version=product.offer.version, offset=0),
    ):
        with pytest.raises(Refused, match=r"product\.not-open"):
            door(site.enclave, request, None)
    assert product.offer.version not in site.enclave.verification.tables.versions()
    assert not list(site.bureau.home.rawdata.glob(f"*{product.offer.version}*"))
    with pytest.raises(Refused, match=r"standing\.closed"):
        door(site.enclave, AskProgress(ticket_id=product.ticket.ticket_id), None)
