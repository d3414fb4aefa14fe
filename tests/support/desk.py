"""A deployment in use, asked through the command line, that notices whatever a command leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from enclave_runner.contract.grant import PURPOSE, Grant, Mode, Purpose, Scope
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.signing import KeyFile, seal
from sandbox.settings import Home
from sandbox.workflow.enclave import SocketDoor, start_enclave
from sandbox.workflow.grants import draft_grant, sign_grant
from sandbox.workflow.office import local_actor, open_office, utc_now
from tests.support.command_line import Answer, call_main
from tests.support.deployment import BANK, OPERATOR, OTHER, make_deployment
from tests.support.deployment_state import changes, state_of
from tests.support.staff import CATALOGUE, UNBOUNDED_CATALOGUE, staff_csv, write

DEPARTMENT = "dept-human-resources"
ENTRY = CATALOGUE.replace("dept-labour", DEPARTMENT)
VISITS = UNBOUNDED_CATALOGUE.replace("dept-labour", DEPARTMENT)
ALL_COLUMNS = ("staff:district,pay,hours,active", "visits:district,pay")
MODES = ("query", "verification", "model")
Refusal = tuple[int, str, str]


@dataclass(frozen=True)
class Desk:
    """A deployment in use and a folder of files, with a running enclave."""

    home: Home
    folder: Path

    def file(self, name: str, content: str | bytes) -> str:
        """A file on the desk."""
        return write(self.folder / name, content)

    def ask(self, *arguments: str, stdin: str | bytes = "") -> Answer:
        """One command, for a script."""
        return call_main("--home", str(self.home.folder), "--json", *arguments, stdin=stdin)

    def done(self, *arguments: str, stdin: str | bytes = "") -> None:
        """One command that must succeed."""
        answer = self.ask(*arguments, stdin=stdin)
        assert answer.code == 0, answer

    def ask_in_vain(self, *arguments: str, stdin: str | bytes = "", allowed: frozenset[str] = frozenset()) -> Answer:
        """One command that must leave everything as it was, but for the tables in `allowed`."""
        before = state_of(self.home)
        answer = self.ask(*arguments, stdin=stdin)
        assert changes(before, state_of(self.home)) <= allowed
        assert answer.code != 0
        return answer


@contextmanager
def open_desk(folder: Path) -> Iterator[Desk]:
    """A deployment with two datasets and a running enclave."""
    desk = Desk(make_deployment(folder / "home"), folder)
    with start_enclave(desk.home):
        _import_staff(desk)
        yield desk


def _import_staff(desk: Desk) -> None:
    data = desk.file("staff.csv", staff_csv())
    for entry in (desk.file("staff.toml", ENTRY), desk.file("visits.toml", VISITS)):
        desk.done("dataset", "import", data, "--catalogue", entry)


def furnish(desk: Desk) -> None:
    """Scenarios, grants in every state, a product."""
    approval = desk.file("approval.txt", "approved")
    for scenario, operator, purpose in (
        ("free", OPERATOR, "public-interest"),
        ("paid", OPERATOR, "industry"),
        ("other", OTHER, "public-interest"),
    ):
        line = ("scenario", "add", scenario, "--operator", operator, "--title", "用途", "--purpose", purpose)
        desk.done(*line, "--evidence", approval, "--until", "2099-12-31", "--recipient", BANK)
    _grant(desk, "grant-free", "free", modes=("query",))
    _grant(desk, "grant-paid", "paid")
    _grant(desk, "grant-other", "other")
    _grant(desk, "grant-small", "free", "--rho", "resident=0.001")
    _grant(desk, "grant-once", "free", "--rho", "resident=1", "--uses", "1")
    _grant(desk, "grant-later", "free", "--since", "2098-01-01")
    _grant(desk, "grant-draft", "free", sign=False)
    _grant(desk, "grant-revoked", "free")
    desk.done("grant", "revoke", "grant-revoked")
    _expired_grant(desk)
    line = ("product", "publish", "on-duty", "--grant", "grant-paid", "--title", "在岗核验")
    desk.done(*line, "--attribute", "staff.active", "--as", OPERATOR)


def draft(grant_id: str, scenario: str, *more: str, modes: tuple[str, ...] = MODES) -> tuple[str, ...]:
    """The line that drafts a grant; what stands in `more` takes the place of what is usual."""
    how = [word for mode in modes for word in ("--mode", mode)]
    line = ("grant", "draft", grant_id, "--scenario", scenario, *how, "--until", "2099-06-30")
    columns = () if "--column" in more else [word for column in ALL_COLUMNS for word in ("--column", column)]
    return (*line, *columns, *more)


def _grant(
    desk: Desk, grant_id: str, scenario: str, *more: str, modes: tuple[str, ...] = MODES, sign: bool = True
) -> None:
    rho = () if "--rho" in more else ("--rho", "resident=2")
    desk.done(*draft(grant_id, scenario, *rho, *more, modes=modes))
    if sign:
        desk.done("grant", "sign", grant_id)


def _expired_grant(desk: Desk) -> None:
    """Drafted and signed a hundred days ago, ended ten days ago."""
    office = open_office(desk.home, SocketDoor(desk.home.enclave), lambda: utc_now() - timedelta(days=100))
    actor = local_actor(office, "bureau", "officer")
    grant = Grant(
        grant_id="grant-expired",
        operator_id=OPERATOR,
        operator_code=local_actor(office, OPERATOR, "clerk").party.credit_code,
        scenario_id="free",
        purpose=Purpose.PUBLIC_INTEREST,
        modes=(Mode.QUERY,),
        scopes=(Scope(dataset_id="staff", columns=("district",)),),
        not_before=utc_now() - timedelta(days=100),
        deadline=utc_now() - timedelta(days=10),
        budgets=(PrivacyLoss(entity_set="resident", pico_rho=10**12),),
        max_uses=10,
    )
    draft_grant(office, actor, grant)
    sign_grant(office, actor, grant.grant_id, seal(grant, PURPOSE, KeyFile.load(desk.home.officer_key)))
    office.engine.dispose()
