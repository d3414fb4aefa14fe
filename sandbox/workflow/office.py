"""The office: everything that the verbs of the control plane work with, opened once; and who acts in it."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from enclave_runner.contract.codec import Value, decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import KeyFile, PublicKey, Signer
from enclave_runner.contract.wire import Identity
from sandbox.domain.audit import AuditEntry
from sandbox.domain.metering import Tariff
from sandbox.domain.party import Party
from sandbox.rules.access import AccessPolicy, Action, Record, read_access
from sandbox.rules.duties import Approvals, read_approvals, read_egress
from sandbox.rules.rating import read_tariffs
from sandbox.settings import Home, pack_folder
from sandbox.store import audit_log
from sandbox.store.database import open_engine, reading, sqlite_url, upgrade, writing
from sandbox.store.parties import PARTIES
from sandbox.workflow.enclave import EnclaveDoor

PLATFORM = "platform"
# Letters of one alphabet only, or two names could look alike; CJK ideographs are those that NFKC keeps.
PERSON = re.compile(r"[a-z0-9._@·\-\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af]{1,64}")


class BureauTrust(Value, frozen=True):
    """The public keys that the control plane counts on, and that an offline check needs."""

    control: PublicKey
    officers: tuple[PublicKey, ...]
    enclave: PublicKey
    enclave_origin: str


@dataclass(frozen=True)
class Office:
    """An opened deployment, seen from the control plane. It holds no officer's key and no raw data."""

    home: Home
    engine: Engine
    signer: Signer
    officers: tuple[PublicKey, ...]
    enclave_key: PublicKey
    enclave_origin: str
    pack: PolicyPack
    access: AccessPolicy
    tariffs: tuple[Tariff, ...]
    approvals: Approvals
    egress_approvals: Approvals
    enclave: EnclaveDoor
    clock: Callable[[], datetime]


@dataclass(frozen=True)
class Actor:
    """A person who acts for a party, under the one spelling of their name."""

    party: Party
    person: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "person", plain_name(self.person))

    @property
    def name(self) -> str:
        """How the audit log and the reviews call this person."""
        return f"{self.party.party_id}/{self.person}"


def plain_name(person: str) -> str:
    """The one spelling of a person's name: two people are the same if and only if these are equal.

    Raises:
        Refused: `actor.person`.
    """
    plain = unicodedata.normalize("NFKC", person).strip().casefold()
    if PERSON.fullmatch(plain) is None:
        raise Refused("actor.person")
    return plain


def utc_now() -> datetime:
    """The host's clock, in whole seconds: what is signed carries no fractions."""
    return datetime.now(UTC).replace(microsecond=0)


def create_office(home: Home, bureau: Party, officers: tuple[PublicKey, ...], enclave_identity: Identity) -> None:
    """Make the control plane's part of a deployment; a key that stands in its place already is used.

    Raises:
        Failed: `office.exists`; `policy.differs` when the enclave was made with another pack.
    """
    if home.trust.exists():
        raise Failed("office.exists")
    pack = PolicyPack(pack_folder())
    if pack.sha256 != enclave_identity.policy_sha256:
        raise Failed("policy.differs")
    for folder in (home.folder, home.bureau, home.control_key.parent, home.artefacts):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # whatever the umask is, and whoever made it
    signer = KeyFile.load(home.control_key) if home.control_key.exists() else KeyFile.create(home.control_key)
    shutil.copytree(pack_folder(), home.policies, dirs_exist_ok=True)
    engine = open_engine(sqlite_url(home.control_db))
    upgrade(engine)
    with writing(engine) as connection:
        if PARTIES.find(connection, bureau.party_id) is None:
            PARTIES.add(connection, bureau)
            facts = {"policy": pack.sha256, "party_sha256": bureau.fixed_sha256}
            entry = AuditEntry(PLATFORM, "office.create", bureau.party_id, facts, utc_now())
            audit_log.append(connection, entry, signer)
    engine.dispose()
    trust = BureauTrust(
        control=signer.public_key,
        officers=officers,
        enclave=enclave_identity.key,
        enclave_origin=enclave_identity.origin,
    )
    # Last, and whole or not at all: its presence says that the office is complete.
    draft = home.trust.with_suffix(".new")
    draft.write_bytes(encode(trust))
    draft.replace(home.trust)


def read_bureau_trust(home: Home) -> BureauTrust:
    """The deployment's public keys.

    Raises:
        Failed: `home.missing` when there is no complete deployment.
    """
    try:
        return decode(home.trust.read_bytes(), BureauTrust)
    except OSError:
        raise Failed("home.missing") from None


def open_office(home: Home, enclave: EnclaveDoor, clock: Callable[[], datetime] = utc_now) -> Office:
    """Open a deployment; its schema is brought up to date.

    Raises:
        Failed: `home.missing`, `key.…` or `policy.…`: nothing works in half an office.
    """
    office = open_as_found(home, enclave, clock)
    upgrade(office.engine)
    return office


def open_as_found(home: Home, enclave: EnclaveDoor, clock: Callable[[], datetime] = utc_now) -> Office:
    """Open a deployment for looking at it: nothing in its database is read or changed yet, whatever state it is in.

    Raises:
        Failed: as `open_office` does.
    """
    trust = read_bureau_trust(home)
    pack = PolicyPack(home.policies)
    return Office(
        home=home,
        engine=open_engine(sqlite_url(home.control_db)),
        signer=KeyFile.load(home.control_key),
        officers=trust.officers,
        enclave_key=trust.enclave,
        enclave_origin=trust.enclave_origin,
        pack=pack,
        access=read_access(pack),
        tariffs=read_tariffs(pack),
        approvals=read_approvals(pack),
        egress_approvals=read_egress(pack),
        enclave=enclave,
        clock=clock,
    )


def local_actor(office: Office, party_id: str, person: str) -> Actor:
    """Someone at the machine's own command line, who is trusted to say for whom they act.

    Raises:
        Refused: `record.unknown`, `actor.person`.
    """
    with reading(office.engine) as connection:
        return Actor(PARTIES.get(connection, party_id), person)


def authorize(office: Office, actor: Actor, action: Action, record: Record) -> None:
    """Raise Refused unless access.cedar allows it."""
    office.access.decide(actor.party, action, record).enforce()


def is_allowed(office: Office, actor: Actor, action: Action, record: Record) -> bool:
    """Whether access.cedar allows it; for lists, which show what may be seen and hide the rest."""
    return office.access.decide(actor.party, action, record).allowed


def note_act(office: Office, connection: Connection, actor: Actor | None, act: str, target: str, **facts: str) -> None:
    """Write the audit entry of an act into the transaction that records it. Without an actor, the platform acted."""
    who = PLATFORM if actor is None else actor.name
    audit_log.append(connection, AuditEntry(who, act, target, facts, office.clock()), office.signer)
