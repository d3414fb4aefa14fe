"""Restoring an enclave's home from its part of a backup, without ever setting the odometer or the nonces back.

    open archive ── unpack beside the home ── verify the log ── take back what is missing ── proof or loss ── rename

Nothing is a home before the last step: a restore that is killed leaves a folder that no enclave opens and that the next
one empties. What the backup does not know must be shown by somebody who has seen more, or counts as spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from enclave_runner.contract.archive import ArchiveReader, BackupKey, Source
from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.evidence import Exchange, Restoration, RestoreReport, read_exchanges, read_seen
from enclave_runner.contract.folder import beside, require_free, settle, unpack, workspace
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.job import VerificationJob
from enclave_runner.contract.merkle import Frontier, open_checkpoint
from enclave_runner.contract.privacy import Budget, PrivacyLoss, number, to_atto_delta, to_pico_rho
from enclave_runner.contract.receipt import PURPOSE as RECEIPT_PURPOSE
from enclave_runner.contract.receipt import Receipt
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import KeyFile, PublicKey, Signed, unseal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.ticket import Ticket
from enclave_runner.contract.trust import Trust
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.rawdata.kms import FILE_KMS, KmsChoice
from enclave_runner.supervisor.backup import FORMAT, HOME, MANIFEST, PART, PURPOSE, Manifest
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import Holdings
from enclave_runner.supervisor.home import EnclaveHome, read_trust
from enclave_runner.supervisor.ledger import RECEIPT_ORIGIN, Ledger, utc_now
from enclave_runner.supervisor.limits import Limits, read_limits
from enclave_runner.supervisor.odometer import UNKNOWN
from enclave_runner.supervisor.restored_ledger import RestoredLedger

PAGE = 1000
KEY_ID = 16  # digits: a shorter fingerprint is none
Adopted = tuple[Signed, Ticket, Signed, Receipt, bytes | None]


@dataclass(frozen=True)
class Proof:
    """What the restored enclave is held against: a signed checkpoint, a file of evidence, or the will to lose.

    `enclave_key`: its key's id, or more digits of the key's SHA-256. Anybody can seal an archive to a backup key; the
    enclave's own key is what tells its archives from others.
    """

    checkpoint: str | None = None
    receipts: Path | None = None
    accepts_loss: bool = False
    enclave_key: str | None = None


@dataclass(frozen=True)
class _Restored:
    """The unpacked home, opened."""

    key: KeyFile
    trust: Trust
    limits: Limits
    ledger: RestoredLedger
    holdings: Holdings

    def entity_sets(self) -> frozenset[str]:
        """Every entity set that this home knows of."""
        held = {item.spec.entity_set for item in self.holdings.newest()}
        return frozenset(held | {item.entity_set for item in self.ledger.readings()} | self.limits.entity_sets)


def restore(
    home: EnclaveHome,
    source: Source,
    key: BackupKey,
    proof: Proof,
    label: str | None = None,
    clock: Callable[[], datetime] = utc_now,
    token: KmsChoice = FILE_KMS,
) -> RestoreReport:
    """Make the home anew, whole or not at all. `label` is that of the backup's other part, where there is one.

    No code that the archive names is ever loaded: where keys are in a token, `token` says which and by which library.

    Raises:
        Failed: `home.exists`, `workspace.…`, `restore.unwritable`, `backup.…`, `ledger.damaged`, `restore.foreign` for
            another enclave's backup, `restore.token-…`, `kms.…`.
        Refused: `restore.unproven`, `restore.behind`, `restore.gap`, `checkpoint.invalid` for another enclave's.
    """
    require_free(home.folder)
    with workspace(beside(home.folder)) as place:
        archive = ArchiveReader(source, key)
        if archive.header.part != PART or label not in (None, archive.header.label):
            raise Failed("backup.parts")
        unpack(archive, place)
        made = EnclaveHome(place / HOME)
        key_file = KeyFile.load(made.receipt_key)
        _check_key(key_file.public_key, proof)
        manifest = _manifest(place, key_file.public_key)
        made.kms.point_at(token)
        report = _continue(made, key_file, manifest, proof, clock)
        settle(place / HOME, home.folder)
    return report


def _check_key(key: PublicKey, proof: Proof) -> None:
    known = proof.enclave_key
    if known is not None and (len(known) < KEY_ID or not digest(key.raw).startswith(known.lower())):
        raise Failed("restore.foreign")


def _manifest(place: Path, key: PublicKey) -> Manifest:
    try:
        manifest = unseal(decode((place / MANIFEST).read_bytes(), Signed), PURPOSE, (key,), Manifest)
    except (OSError, Refused):
        raise Failed("backup.damaged") from None
    if manifest.format != FORMAT:
        raise Failed("backup.format")
    return manifest


def _continue(
    home: EnclaveHome, key: KeyFile, manifest: Manifest, proof: Proof, clock: Callable[[], datetime]
) -> RestoreReport:
    """Bring the unpacked ledger forward to what others have seen, and void what they may still hold."""
    limits = read_limits(PolicyPack(home.policies))
    with closing(Database(home.ledger)) as database:
        ledger = RestoredLedger(database, key, limits.caps)
        opened = _Restored(key, read_trust(home), limits, ledger, Holdings(database))
        _check_log(opened, manifest)
        replayed, reopened = _take_evidence(opened, proof)
        is_lossy = not _is_proven(opened, proof)
        not_before = _first_free_second(ledger, clock)
        head = ledger.head()
        statement = Restoration(
            label=manifest.label,
            not_before=not_before,
            size=head.size,
            root=head.root.hex(),
            replayed=replayed,
            is_lossy=is_lossy,
        )
        ledger.record_restoration(statement, opened.entity_sets())
    return RestoreReport(
        label=manifest.label,
        enclave_key=digest(key.public_key.raw),
        made_at=manifest.made_at,
        not_before=not_before,
        size=head.size,
        replayed=replayed,
        reopened=reopened,
        is_lossy=is_lossy,
    )


def _check_log(opened: _Restored, manifest: Manifest) -> None:
    """Every receipt of the backup, recomputed: nothing is built on a log that was edited before the backup."""
    tree = Frontier()
    while page := opened.ledger.receipts(tree.size, PAGE):
        for signed in page:
            try:
                receipt = unseal(signed, RECEIPT_PURPOSE, (opened.key.public_key,), Receipt)
            except Refused:
                raise Failed("ledger.damaged") from None
            if receipt.sequence != tree.size:
                raise Failed("ledger.damaged")
            tree = tree.append(encode(signed))
    head = opened.ledger.head()
    stated = open_checkpoint(manifest.checkpoint, RECEIPT_ORIGIN, opened.key.public_key)
    if not (head.size, head.root) == (tree.size, tree.root) == (stated.size, stated.root):
        raise Failed("ledger.damaged")


def _take_evidence(opened: _Restored, proof: Proof) -> tuple[int, int]:
    """How many receipts were taken back, and how many tickets may have run without anybody seeing a receipt."""
    if proof.receipts is None:
        return 0, 0
    try:
        replayed = opened.ledger.adopt(_receipts_in(opened, proof.receipts))
    except Refused as refused:
        if refused.rule != "restore.gap" or not proof.accepts_loss:
            raise
        replayed = 0
    reopened = sum(
        _reopen(opened, exchange.ticket) for exchange in read_exchanges(proof.receipts) if exchange.receipt is None
    )
    return replayed, reopened


def _receipts_in(opened: _Restored, path: Path) -> Iterator[Adopted]:
    for exchange in read_exchanges(path):
        if exchange.receipt is not None:
            yield _verified(opened, exchange, exchange.receipt)


def _verified(opened: _Restored, exchange: Exchange, signed: Signed) -> Adopted:
    """A receipt that this enclave signed, with the ticket that it answers and what it released."""
    receipt = unseal(signed, RECEIPT_PURPOSE, (opened.key.public_key,), Receipt)
    ticket = unseal(exchange.ticket, TICKET_PURPOSE, opened.trust.control, Ticket)
    released = None if exchange.release is None else digest(exchange.release)
    if receipt.ticket_id != ticket.ticket_id or receipt.release_sha256 != released:
        raise Refused("restore.gap", sequence=receipt.sequence)
    return exchange.ticket, ticket, signed, receipt, exchange.release


def _reopen(opened: _Restored, signed: Signed) -> bool:
    """A ticket that was sent and of which nobody has a receipt: its whole budget counts as spent."""
    ticket = unseal(signed, TICKET_PURPOSE, opened.trust.control, Ticket)
    try:
        grant = unseal(ticket.grant, GRANT_PURPOSE, opened.trust.officers, Grant)
    except Refused:
        return False  # an order without a grant never ran and never will
    return opened.ledger.reopen(ticket, signed, grant.grant_id, _most(opened, ticket))


def _most(opened: _Restored, ticket: Ticket) -> tuple[PrivacyLoss, ...]:
    """The most that the ticket may have spent. A dataset that came after the backup may be of any entity set."""
    if isinstance(ticket.job, VerificationJob):
        return ()
    held = [opened.holdings.find(dataset_id) for dataset_id in ticket.data_versions]
    known = {item.spec.entity_set for item in held if item is not None}
    if not known or None in held:
        known = {*opened.entity_sets(), UNKNOWN}
    pico_rho, atto_delta = _largest(ticket.job.budget)
    return tuple(PrivacyLoss(entity_set=name, pico_rho=pico_rho, atto_delta=atto_delta) for name in sorted(known))


def _largest(budget: Budget) -> tuple[int, int]:
    """The ρ and δ that no mechanism exceeds within the budget: a pure ε is a ρ of ε²/2 (Bun and Steinke 2016)."""
    pure = to_pico_rho(number(budget.epsilon) ** 2 / 2)
    return max(pure, pico_rho_of(budget)), to_atto_delta(number(budget.delta))


def _is_proven(opened: _Restored, proof: Proof) -> bool:
    """Whether the log holds everything that others have seen. Who has seen nothing vouches for an empty log only.

    Raises:
        Refused: `restore.unproven`, `restore.behind` unless loss is accepted; `checkpoint.invalid`.
    """
    notes = [] if proof.checkpoint is None else [proof.checkpoint]
    seen = None if proof.receipts is None else read_seen(proof.receipts)
    if seen is not None and seen.checkpoint is not None:
        notes.append(seen.checkpoint)
    sizes = [] if seen is None or seen.checkpoint is not None else [0]
    for note in notes:
        checkpoint = open_checkpoint(note, RECEIPT_ORIGIN, opened.key.public_key)
        if not opened.ledger.contains(checkpoint):
            if proof.accepts_loss:
                return False
            raise Refused("restore.behind", have=opened.ledger.head().size, seen=checkpoint.size)
        sizes.append(checkpoint.size)
    if sizes and (max(sizes) > 0 or opened.ledger.head().size == 0):
        return True
    if not proof.accepts_loss:
        raise Refused("restore.unproven")
    return False


def _first_free_second(ledger: Ledger, clock: Callable[[], datetime]) -> datetime:
    """A moment later than the issue of any ticket so far, which has come when this returns.

    Tickets carry whole seconds: the rest of this one is waited out. Of a clock that was put back nothing is awaited;
    the newest ticket seen, or the restore before, then says what late is.
    """
    moment = clock().replace(microsecond=0) + timedelta(seconds=1)
    time.sleep(max(0.0, (moment - clock()).total_seconds()))
    earlier = [past for past in (ledger.latest_issue(), ledger.not_before()) if past is not None]
    return max([moment, *(past + timedelta(seconds=1) for past in earlier)])
