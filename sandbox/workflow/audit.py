"""Verifying the two logs against each other and against the ledgers: nothing is taken on the word of either side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.evidence import RESTORATION, Restoration
from enclave_runner.contract.merkle import Frontier, open_checkpoint
from enclave_runner.contract.receipt import PURPOSE, Receipt
from enclave_runner.contract.signing import PublicKey, Signed, unseal
from enclave_runner.contract.wire import AskLog, ReceiptLog
from sandbox.domain.audit import AuditEntry
from sandbox.domain.party import PARTY_LIFECYCLE, PartyStatus
from sandbox.domain.submission import Submission, SubmissionStatus
from sandbox.rules.access import Action, Record
from sandbox.rules.rating import meter
from sandbox.store import audit_log, calls, receipts, submissions
from sandbox.store.audit_log import AuditVerdict
from sandbox.store.database import open_copy, reading
from sandbox.store.invoices import INVOICES
from sandbox.store.meter_events import EVENTS
from sandbox.store.parties import PARTIES
from sandbox.store.receipts import StoredReceipt
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.call_audit import check_calls
from sandbox.workflow.egress_audit import ACTS, check_egress
from sandbox.workflow.invoices import recompute_invoice
from sandbox.workflow.office import Actor, BureauTrust, Office, authorize
from sandbox.workflow.settle import is_repeat

PAGE = 1000
SETTLED = (
    SubmissionStatus.RELEASED,
    SubmissionStatus.EGRESS_REVIEW,
    SubmissionStatus.WITHHELD,
    SubmissionStatus.FAILED,
)
# What reading an edited row may raise beside Refused: values of another type, out of range, or no text.
UNREADABLE = (DatabaseError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError)


@dataclass(frozen=True)
class AuditCheck:
    """One thing that was checked: how many items, and what is wrong, if anything is."""

    name: str
    entries: int
    problem: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem is None


@dataclass(frozen=True)
class AuditReport:
    """Every check; `ok` only if each is."""

    ok: bool
    checks: tuple[AuditCheck, ...]

    def rows(self) -> list[tuple[str, int, str]]:
        """For a table: name, number of entries, verdict."""
        return [(check.name, check.entries, check.problem or "ok") for check in self.checks]


@dataclass(frozen=True)
class EnclaveLog:
    """The enclave's whole receipt log as fetched, with its root at every size."""

    receipts: tuple[StoredReceipt, ...]
    roots: tuple[str, ...]
    check: AuditCheck
    restorations: tuple[Signed, ...]


def verify_audit(office: Office, actor: Actor | None = None) -> AuditReport:
    """AuditCheck both logs, their cross references, and that ledgers and invoices follow from the receipts.

    Whatever stands in the database, there is a report: a value that cannot be read is a finding of the check that
    needed it. Without an actor nobody's party is looked up: a broken table of parties is a finding like any other.

    Raises:
        Refused: by access, when an actor is given.
        Failed: when the enclave cannot be asked for its log.
    """
    if actor is not None:
        authorize(office, actor, Action.READ_AUDIT, Record("audit", "all"))
    # What is stored here is read first: every receipt settled by then must stand in the log that is fetched after it.
    before: list[StoredReceipt] = []
    try:
        with reading(office.engine) as connection:
            earlier = _guarded("receipts stored", lambda: _read_receipts(connection, before))
        log = _fetch_log(office)
        with reading(office.engine) as connection:
            checks = _check_all(office, connection, tuple(before), log, earlier)
    except (DatabaseError, UnicodeDecodeError):  # the latter is how the driver fails to quote a broken schema
        checks = (AuditCheck("ledgers", 0, "the database cannot be read here"),)
    return AuditReport(all(check.ok for check in checks), checks)


def _check_all(
    office: Office, connection: Connection, before: tuple[StoredReceipt, ...], log: EnclaveLog, earlier: AuditCheck
) -> tuple[AuditCheck, ...]:
    """Every check by itself: what one of them cannot read does not keep the others from their findings."""
    anchors = _anchors(item.receipt for item in log.receipts)
    verdict = audit_log.verify(connection, office.signer.public_key, anchors)
    acts = _Acts(connection, verdict)
    return (
        _audit_check(verdict),
        log.check,
        _guarded("receipts stored", lambda: _check_stored(connection, before, log)) if earlier.ok else earlier,
        _guarded("restores", lambda: _check_restores(office, log)),
        _guarded("repeats", lambda: _check_repeats(log)),
        _guarded("cross-checkpoints", lambda: _check_references(acts, log)),
        _guarded("parties", lambda: _check_parties(connection, acts)),
        _guarded("meter events", lambda: _check_ledgers(connection, acts)),
        _guarded("egress reviews", lambda: _check_egress(connection, acts)),
        _guarded("calls", lambda: _check_calls(office, connection, acts, log)),
        _guarded("releases", lambda: _check_releases(connection)),
        _guarded("invoices", lambda: _check_invoices(connection, acts)),
    )


def _guarded(name: str, check: Callable[[], AuditCheck]) -> AuditCheck:
    """The check, or what kept it from reading what is stored: somebody has edited the database."""
    try:
        return check()
    except Refused as refused:
        return AuditCheck(name, 0, f"a stored value cannot be read: {refused.facts.get('what', refused.rule)}")
    except UNREADABLE:
        return AuditCheck(name, 0, "the database, or a value in it, cannot be read here")


def _read_receipts(connection: Connection, found: list[StoredReceipt]) -> AuditCheck:
    found += receipts.listed(connection)
    return AuditCheck("receipts stored", len(found))


def verify_copy(path: Path, trust: Path) -> AuditVerdict:
    """AuditCheck the audit log in a copied control.db, offline and read-only, with the public keys of a trust file.

    The receipts in the copy, which the enclave signed, show whether the tail was cut.

    Raises:
        Failed: `file.unreadable` when the copy or the trust file cannot be opened.
    """
    try:
        keys = decode(trust.read_bytes(), BureauTrust)
        path.open("rb").close()
    except OSError:
        raise Failed("file.unreadable") from None
    engine = open_copy(path)
    try:
        with engine.connect() as connection, connection.begin():
            return _verify_with_receipts(connection, keys)
    except (Refused, *UNREADABLE):
        return AuditVerdict(False, 0, 0, "the database cannot be read")
    finally:
        engine.dispose()


def _verify_with_receipts(connection: Connection, keys: BureauTrust) -> AuditVerdict:
    """A bad entry is located even where a receipt cannot be read."""
    anchors: dict[int, str] | None = None
    try:
        anchors = _anchors(tuple(_genuine(receipts.listed(connection), keys.enclave)))
    except (Refused, *UNREADABLE):
        pass
    verdict = audit_log.verify(connection, keys.control, anchors)
    if verdict.ok and anchors is None:
        return AuditVerdict(False, verdict.entries, verdict.entries, "a receipt in the database cannot be read")
    return verdict


def _genuine(stored: Iterable[StoredReceipt], key: PublicKey) -> Iterable[Receipt]:
    for item in stored:
        yield unseal(item.signed, PURPOSE, (key,), Receipt)


def _anchors(genuine: Iterable[Receipt]) -> dict[int, str]:
    return {receipt.audit_size: receipt.audit_root for receipt in genuine}


def _audit_check(verdict: AuditVerdict) -> AuditCheck:
    problem = None if verdict.ok else f"entry {verdict.first_bad_index}: {verdict.problem}"
    return AuditCheck("audit log", verdict.entries, problem)


@dataclass(frozen=True)
class _Acts:
    """The audit log as far as it verifies: nothing is concluded from a bad entry or from what follows it."""

    connection: Connection
    verdict: AuditVerdict

    def of(self, *acts: str) -> Iterator[AuditEntry]:
        """Every entry of these kinds of act before the first bad entry."""
        since, end = 0, self.verdict.entries if self.verdict.first_bad_index is None else self.verdict.first_bad_index
        while page := audit_log.entries(self.connection, since, min(PAGE, end - since)):
            since += len(page)
            yield from (entry for entry in page if entry.act in acts)


def _fetch_log(office: Office) -> EnclaveLog:
    """The whole log, each receipt's signature checked, the tree recomputed and compared with the signed checkpoint."""
    signed: list[Signed] = []
    while True:
        reply = office.enclave.call(AskLog(since=len(signed)))
        if not isinstance(reply, ReceiptLog):
            raise Failed("enclave.answer")
        signed += reply.receipts
        if len(reply.receipts) < PAGE:
            break
    found: list[StoredReceipt] = []
    tree = Frontier()
    roots = [tree.root.hex()]
    try:
        for index, item in enumerate(signed):
            receipt = unseal(item, PURPOSE, (office.enclave_key,), Receipt)
            if receipt.sequence != index:
                raise Refused("receipt.mismatch", what="sequence")
            found.append(StoredReceipt(item, receipt))
            tree = tree.append(encode(item))
            roots.append(tree.root.hex())
        checkpoint = open_checkpoint(reply.checkpoint, office.enclave_origin, office.enclave_key)
    except Refused as refused:
        check = AuditCheck("receipt log", len(signed), f"{len(found)}: {refused.rule}")
        return EnclaveLog(tuple(found), tuple(roots), check, reply.restorations)
    # A receipt may have been added while pages were fetched: the checkpoint is never older than what came with it.
    fits = checkpoint.size == tree.size and checkpoint.root == tree.root
    problem = None if fits else "the signed checkpoint has another size or root"
    return EnclaveLog(tuple(found), tuple(roots), AuditCheck("receipt log", len(signed), problem), reply.restorations)


def _check_restores(office: Office, log: EnclaveLog) -> AuditCheck:
    """Every restore that the enclave states went on from a log that this one continues."""
    name, count = "restores", len(log.restorations)
    for signed in log.restorations:
        said = unseal(signed, RESTORATION, (office.enclave_key,), Restoration)
        if said.size >= len(log.roots) or log.roots[said.size] != said.root:
            return AuditCheck(name, count, f"the log at size {said.size} is not the one that was restored")
    return AuditCheck(name, count)


def _check_stored(connection: Connection, stored: tuple[StoredReceipt, ...], log: EnclaveLog) -> AuditCheck:
    """What is stored here stands in the log as it is; what stands there is stored here, or waits to be settled."""
    name, in_log = "receipts stored", {item.receipt.receipt_id: item.signed for item in log.receipts}
    for item in stored:
        if in_log.get(item.receipt.receipt_id) != item.signed:
            return AuditCheck(name, len(stored), f"receipt {item.receipt.receipt_id} is not in the enclave's log")
    here = {item.receipt.receipt_id for item in receipts.listed(connection)}
    waiting = {item.submission_id for item in submissions.dispatched(connection)}
    for item in log.receipts:
        if item.receipt.receipt_id not in here and item.receipt.submission_id not in waiting:
            return AuditCheck(name, len(stored), f"receipt {item.receipt.receipt_id} was lost here")
    return AuditCheck(name, len(stored))


def _check_repeats(log: EnclaveLog) -> AuditCheck:
    """What was answered at no loss was answered before: to the same grant, in an earlier receipt that repeats none."""
    first: dict[str, Receipt] = {}
    count = 0
    for item in log.receipts:
        receipt = item.receipt
        if receipt.repeats is None:
            first[receipt.receipt_id] = receipt
            continue
        count += 1
        if receipt.repeats not in first or not is_repeat(receipt, first[receipt.repeats]):
            return AuditCheck("repeats", count, f"receipt {receipt.receipt_id} repeats no answer that was given before")
    return AuditCheck("repeats", count)


def _check_references(acts: _Acts, log: EnclaveLog) -> AuditCheck:
    """Every checkpoint of the receipt log that the audit log carries is one that the log really had."""
    name, seen = "cross-checkpoints", 0
    for entry in acts.of("receipt.settle"):
        seen += 1
        size = int(entry.facts.get("log_size", -1))
        if size < 0:
            return AuditCheck(name, seen, f"the entry of {entry.target} names no checkpoint")
        # What was settled after the log had been fetched cannot be compared yet.
        if size < len(log.roots) and log.roots[size] != entry.facts.get("log_root"):
            return AuditCheck(name, seen, f"the receipt log at size {size} was another one")
    return AuditCheck(name, seen)


def _check_parties(connection: Connection, acts: _Acts) -> AuditCheck:
    """Every party is the one that was registered, in the state that was last recorded."""
    name, parties = "parties", {party.party_id: party for party in PARTIES.unaltered(connection)}
    digests: dict[str, str | None] = {}
    states: dict[str, str] = {}
    changes = {f"party.{status.value}": status.value for status in PartyStatus}
    for entry in acts.of("office.create", "party.register", *changes):
        if entry.act not in changes:
            digests[entry.target] = entry.facts.get("party_sha256")
        states[entry.target] = changes.get(entry.act, PARTY_LIFECYCLE.initial.value)
    if not _fits(digests, {party_id: party.fixed_sha256 for party_id, party in parties.items()}, acts):
        return AuditCheck(name, len(parties), "the parties are not those that the audit log recorded")
    if acts.verdict.ok and states != {party_id: party.status.value for party_id, party in parties.items()}:
        return AuditCheck(name, len(parties), "a party is in another state than the audit log recorded")
    return AuditCheck(name, len(parties))


def _fits(recorded: Mapping[str, str | None], stored: Mapping[str, str], acts: _Acts) -> bool:
    """A log that is broken somewhere may have recorded more than can be read from it, but nothing else."""
    return recorded == stored if acts.verdict.ok else recorded.items() <= stored.items()


def _check_ledgers(connection: Connection, acts: _Acts) -> AuditCheck:
    """Submissions are as they were filed; one meter event per receipt, the one that follows from both, once it is
    decided whether what the job gave is released."""
    name, stored = "meter events", receipts.listed(connection)
    events = {event.receipt_id: event for event in EVENTS.unaltered(connection)}
    asked = {submission.submission_id: submission for submission in SUBMISSIONS.unaltered(connection)}
    if not _are_as_filed(asked, acts):
        return AuditCheck(name, len(events), "the submissions are not those that the audit log recorded")
    settled = sum(submissions.count(connection, status) for status in SETTLED)
    ended = sum(1 for item in stored if item.receipt.outcome.value in ("released", "failed"))
    waiting = {item.submission_id for item in asked.values() if item.status is SubmissionStatus.EGRESS_REVIEW}
    if len(events) != len(stored) - len(waiting) or settled != ended:
        return AuditCheck(
            name, len(events), f"{len(stored)} receipts, {len(events)} events, {settled} settled submissions"
        )
    for item in stored:
        submission = asked[item.receipt.submission_id]
        due = None if submission.submission_id in waiting else meter(item.receipt, submission)
        if events.get(item.receipt.receipt_id) != due:
            return AuditCheck(
                name, len(events), f"the event of {item.receipt.receipt_id} does not follow from its receipt"
            )
    return AuditCheck(name, len(events))


def _are_as_filed(asked: Mapping[str, Submission], acts: _Acts) -> bool:
    """Whoever rewrites a submission rewrites who pays; its filing stands in the log."""
    recorded = {entry.target: entry.facts.get("submission_sha256") for entry in acts.of("submission.file")}
    return _fits(recorded, {submission_id: item.fixed_sha256 for submission_id, item in asked.items()}, acts)


def _check_egress(connection: Connection, acts: _Acts) -> AuditCheck:
    """What left after a review is what reviewers let go."""
    asked = {submission.submission_id: submission for submission in SUBMISSIONS.listed(connection)}
    return AuditCheck("egress reviews", *check_egress(connection, asked, acts.of(*ACTS), acts.verdict.ok))


def _check_calls(office: Office, connection: Connection, acts: _Acts, log: EnclaveLog) -> AuditCheck:
    """The calls are those that the enclave settled, and that the audit log recorded."""
    return AuditCheck("calls", *check_calls(office, connection, acts.of("calls.settle"), len(log.restorations)))


def _check_releases(connection: Connection) -> AuditCheck:
    """Every release is stored as the very bytes whose digest the enclave signed."""
    name, stored = "releases", receipts.listed(connection)
    count = 0
    for item in stored:
        content = receipts.release_of(connection, item.receipt.receipt_id)
        if (None if content is None else digest(content)) != item.receipt.release_sha256:
            return AuditCheck(name, count, f"the release of {item.receipt.receipt_id} is missing or changed")
        count += content is not None
    return AuditCheck(name, count)


def _check_invoices(connection: Connection, acts: _Acts) -> AuditCheck:
    """Every invoice on record is there with its total, and follows from the receipts that it covers."""
    issued = INVOICES.listed(connection)
    totals = {invoice.invoice_id: str(invoice.total_fen) for invoice in issued}
    recorded = {entry.target: entry.facts.get("total_fen", "") for entry in acts.of("invoice.issue")}
    if not _fits(recorded, totals, acts):
        return AuditCheck("invoices", len(issued), "the invoices are not those that the audit log recorded")
    for invoice in issued:
        covered = receipts.on_invoice(connection, invoice.invoice_id)
        asked = {item.submission_id: SUBMISSIONS.get(connection, item.submission_id) for item in covered}
        called = calls.on_invoice(connection, invoice.invoice_id)
        if not recompute_invoice(invoice, covered, asked, called):
            return AuditCheck("invoices", len(issued), f"{invoice.invoice_id} does not follow from its receipts")
    return AuditCheck("invoices", len(issued))
