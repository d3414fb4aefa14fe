"""Open products at rest: after a restart, when data are dropped, when keys turn, and in a restored home."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.wire import AskProgress, Progress
from enclave_runner.supervisor.backup import back_up
from enclave_runner.supervisor.call_log import RESTORED_STEP
from enclave_runner.supervisor.home import EnclaveHome
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.opening import open_product, warm
from enclave_runner.supervisor.removal import drop_data
from enclave_runner.supervisor.restore import Proof, restore
from enclave_runner.supervisor.rotation import rotate_keys
from enclave_runner.supervisor.service import answer as door
from enclave_runner.supervisor.verification import ServingZygote
from enclave_runner.supervisor.verification_tables import SERVED
from tests.support.backups import BACKUP_KEY, LABEL
from tests.support.enclave_home import (
    PEOPLE,
    PEOPLE_CSV,
    Bureau,
    Site,
    make_bureau,
    make_grant,
    running_site,
    with_enclave,
)
from tests.support.open_products import (
    Product,
    check_of,
    opened,
    opened_under,
    plain,
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


def refusal(site: Site, ticket: StandingTicket) -> str:
    with pytest.raises(Refused) as refused:
        open_product(site.enclave, sign_standing(site, ticket))
    return refused.value.rule


# At rest, and after a restart


def test_tables_at_rest_are_encrypted_and_only_what_is_served_stays(site: Site) -> None:
    product = opened(site, WEST, product_id="rest")
    folders = list(site.bureau.home.rawdata.glob(f".table@{product.offer.version}-*"))
    assert {folder.name.rpartition("-")[2] for folder in folders} == set(SERVED)
    for file in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert b"yunei-1\n" not in content  # the head of a plain table
        assert file.stat().st_mode & 0o077 == 0


def test_an_open_product_answers_after_a_restart_without_a_build(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_site(bureau) as site:
        product = opened(imported(site), WEST, product_id="restart")
        capped = opened(site, CITY, product_id="capped", calls=2)
        capped.verdicts(("p3", "西城"))

    def no_build(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ServingZygote, "work", no_build)
    with running_site(bureau) as site:
        warm(site.enclave)
        assert again(site, product).verdicts(("p3", ""), ("p4", "")) == ("yes", "no")
        assert opened_under(site, product.ticket).offer == product.offer
        again(site, capped).verdicts(("p3", "西城"))
        with pytest.raises(Refused, match=r"call\.cap"):  # calls are counted over restarts
            again(site, capped).verdicts(("p3", "西城"))
        progress = door(site.enclave, AskProgress(ticket_id=product.ticket.ticket_id), None)
        assert progress == Progress(stage="open", done=1, total=1)


def test_what_has_run_out_is_swept_at_the_start(bureau: Bureau) -> None:
    with running_site(bureau) as site:
        product = opened(imported(site), WEST, product_id="over")
    with running_site(bureau, clock=lambda: product.ticket.expires_at) as site:
        assert site.enclave.verification.tables.versions() == frozenset()
        assert not list(bureau.home.rawdata.glob(".table@*"))
        with pytest.raises(Refused, match=r"product\.not-open"):
            again(site, product).verdicts(("p3", ""))


def test_a_table_whose_file_was_altered_answers_nothing(bureau: Bureau) -> None:
    with running_site(bureau) as site:
        product = opened(imported(site), CITY, product_id="altered")
    (file,) = bureau.home.rawdata.glob(f".table@{product.offer.version}-plain/*.column")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with running_site(bureau) as site:
        warm(site.enclave)  # never raises
        with pytest.raises(Failed, match=r"rawdata\.damaged"):
            again(site, product).verdicts(("p3", "西城"))


# When data go, keys turn, or the home is restored


@pytest.mark.parametrize(("version", "dropped"), [(None, "city"), (None, None), (None, "id")])
def test_dropped_data_take_their_tables_with_them(bureau: Bureau, version: str | None, dropped: str | None) -> None:
    with running_site(bureau) as site:
        product = opened(imported(site), WEST, product_id="drop")
    assert list(bureau.home.rawdata.glob(".table@*"))
    drop_data(bureau.home, "people", version, dropped)
    assert not list(bureau.home.rawdata.glob(".table@*"))
    with running_site(bureau) as site, pytest.raises(Refused, match=r"product\.not-open"):
        again(site, product).verdicts(("p3", ""))


def test_another_column_that_is_dropped_closes_nothing(bureau: Bureau) -> None:
    with running_site(bureau) as site:
        product = opened(imported(site), CITY, product_id="other-column")
    drop_data(bureau.home, "people", None, "income")
    with running_site(bureau) as site:
        assert again(site, product).verdicts(("p3", "西城")) == ("yes",)


def test_tables_open_after_their_keys_were_rotated(bureau: Bureau) -> None:
    with running_site(bureau) as site:
        product = opened(imported(site), WEST, product_id="rotate")
    before = [path.read_bytes() for path in sorted(bureau.home.rawdata.glob(".table@*/manifest.json"))]
    rotate_keys(bureau.home)
    assert [path.read_bytes() for path in sorted(bureau.home.rawdata.glob(".table@*/manifest.json"))] != before
    with running_site(bureau) as site:
        assert again(site, product).verdicts(("p3", "")) == ("yes",)


def test_a_restored_home_answers_nothing_of_before_and_forgets_no_guess(bureau: Bureau, tmp_path: Path) -> None:
    """Nobody can show what was asked since the backup: the data need a new version, whose guesses begin anew anyway."""
    archive, home = io.BytesIO(), EnclaveHome(tmp_path / "restored")
    with running_site(bureau) as site:
        product = opened(imported(site), WEST, product_id="restored")
        asked = [("p3", "")] * 10
        product.verdicts(*asked)
        back_up(bureau.home, archive, BACKUP_KEY.public, LABEL, lambda: None)
        product.verdicts(("p4", ""))  # which the backup does not know
    assert b".table@" not in archive.getvalue()
    archive.seek(0)
    restore(home, archive, BACKUP_KEY, Proof(accepts_loss=True))
    assert not list(home.rawdata.glob(".table@*"))
    with running_site(dataclasses.replace(bureau, home=home)) as site:
        with pytest.raises(Refused, match=r"product\.not-open"):
            again(site, product).verdicts(("p3", ""))
        assert refusal(site, product.ticket) in ("standing.closed", "ticket.voided")
        now = utc_now()
        grant = make_grant(not_before=now - timedelta(seconds=1))
        fresh = standing_ticket(site, WEST, grant, issued_at=now.replace(microsecond=0))
        assert refusal(site, fresh) == "standing.forgotten"
        newer = PEOPLE_CSV + "extra,男,20,1,西城,2001-01-01,true\n"
        site.import_csv(PEOPLE, newer)
        late = utc_now().replace(microsecond=0) + timedelta(seconds=1)
        grant = make_grant(not_before=site.enclave.ledger.not_before())
        reopened = opened_under(
            with_enclave(site, clock=lambda: late), standing_ticket(site, WEST, grant, issued_at=late)
        )
        reply = reopened.ask(plain(("p3", "")))
        assert reopened.receipt(reply).sequence == RESTORED_STEP  # no number of before is used again
