"""The tables. Values stand in `doc` as canonical JSON; other columns are what is looked up or must be unique.

Exactly-once is held by uniqueness here, whatever the code above does: one receipt per ticket and per submission, one
meter event per receipt, one invoice line per receipt. The meter event of a call is what its receipt says: it has no row
of its own. Tables in LEDGERS are only ever added to; triggers hold that.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
LEDGERS = (
    "receipts",
    "releases",
    "reviews",
    "egress_reviews",
    "meter_events",
    "invoices",
    "invoice_lines",
    "call_batches",
    "call_receipts",
    "call_invoice_lines",
    "audit_entries",
    "audit_checkpoints",
)


def _text(
    name: str,
    *,
    primary_key: bool = False,
    unique: bool | None = None,
    index: bool | None = None,
    nullable: bool = False,
) -> Column[str]:
    return Column(name, String(200), primary_key=primary_key, unique=unique, index=index, nullable=nullable)


def _reference(name: str, target: str, *, unique: bool | None = None, index: bool | None = None) -> Column[str]:
    return Column(name, String(200), ForeignKey(target), unique=unique, index=index, nullable=False)


def _doc(name: str = "doc") -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


parties = Table("parties", METADATA, _text("party_id", primary_key=True), _text("status"), _doc())

api_keys = Table(
    "api_keys",
    METADATA,
    _text("key_id", primary_key=True),
    _text("hash", unique=True),
    _reference("party_id", "parties.party_id"),
    _text("person"),
    _text("created_by"),
    _text("created_at"),
    _text("revoked_at", nullable=True),
)

datasets = Table(
    "datasets",
    METADATA,
    _text("dataset_id", primary_key=True),
    _reference("department_id", "parties.party_id"),
    _doc(),
)

dataset_versions = Table(
    "dataset_versions",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    _reference("dataset_id", "datasets.dataset_id"),
    _text("version"),
    _text("recorded_at"),
    UniqueConstraint("dataset_id", "version"),
)

scenarios = Table(
    "scenarios",
    METADATA,
    _text("scenario_id", primary_key=True),
    _reference("operator_id", "parties.party_id", index=True),
    _doc(),
)

grants = Table(
    "grants",
    METADATA,
    _text("grant_id", primary_key=True),
    _reference("operator_id", "parties.party_id", index=True),
    _reference("scenario_id", "scenarios.scenario_id"),
    _text("status"),
    _doc(),
)

products = Table(
    "products",
    METADATA,
    _text("product_id", primary_key=True),
    _reference("operator_id", "parties.party_id", index=True),
    _reference("grant_id", "grants.grant_id"),
    _text("status"),
    _doc(),
)

consents = Table(
    "consents",
    METADATA,
    _text("consent_id", primary_key=True),
    _text("subject"),
    _reference("business_id", "parties.party_id"),
    _reference("product_id", "products.product_id"),
    _doc(),
    Index("ix_consents_business_id_product_id_subject", "business_id", "product_id", "subject"),
)

standing_orders = Table(
    "standing_orders",
    METADATA,
    _text("ticket_id", primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    _reference("product_id", "products.product_id"),
    _text("status"),
    _doc(),
    Index("ix_standing_orders_product_id_status", "product_id", "status"),
)

submissions = Table(
    "submissions",
    METADATA,
    _text("submission_id", primary_key=True),
    _reference("grant_id", "grants.grant_id"),
    _reference("operator_id", "parties.party_id", index=True),
    _reference("requester_id", "parties.party_id", index=True),
    _text("dataset_id"),
    _text("submitted_by"),
    Column("approvals", Integer, nullable=False),
    Column("egress_approvals", Integer, nullable=False, server_default="0"),
    _text("input_sha256", nullable=True, index=True),
    Column("consent_id", String(200), ForeignKey("consents.consent_id"), nullable=True),
    _text("status", index=True),
    _doc(),
)

reviews = Table(
    "reviews",
    METADATA,
    _reference("submission_id", "submissions.submission_id"),
    _text("reviewer"),
    _doc(),
    PrimaryKeyConstraint("submission_id", "reviewer"),
)

egress_reviews = Table(
    "egress_reviews",
    METADATA,
    _reference("submission_id", "submissions.submission_id"),
    _text("reviewer"),
    _doc(),
    PrimaryKeyConstraint("submission_id", "reviewer"),
)

tickets = Table(
    "tickets",
    METADATA,
    _text("ticket_id", primary_key=True),
    _reference("submission_id", "submissions.submission_id", unique=True),
    _doc(),
)

receipts = Table(
    "receipts",
    METADATA,
    _text("receipt_id", primary_key=True),
    Column("sequence", BigInteger, nullable=False, unique=True),
    _reference("ticket_id", "tickets.ticket_id", unique=True),
    _reference("submission_id", "submissions.submission_id", unique=True),
    _doc(),
    _doc("checkpoint"),
)

releases = Table(
    "releases",
    METADATA,
    Column("receipt_id", String(200), ForeignKey("receipts.receipt_id"), primary_key=True),
    _doc("content"),
)

meter_events = Table(
    "meter_events",
    METADATA,
    Column("receipt_id", String(200), ForeignKey("receipts.receipt_id"), primary_key=True),
    _reference("payer_id", "parties.party_id", index=True),
    _reference("operator_id", "parties.party_id", index=True),
    _text("occurred_at", index=True),
    Column("units", Integer, nullable=False),
    _doc(),
)

invoices = Table(
    "invoices",
    METADATA,
    _text("invoice_id", primary_key=True),
    _reference("payer_id", "parties.party_id"),
    _text("month"),
    _doc(),
    UniqueConstraint("payer_id", "month"),
)

invoice_lines = Table(
    "invoice_lines",
    METADATA,
    Column("receipt_id", String(200), ForeignKey("meter_events.receipt_id"), primary_key=True),
    _reference("invoice_id", "invoices.invoice_id", index=True),
    Column("amount_fen", BigInteger, nullable=False),
)

call_batches = Table(
    "call_batches",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _text("digest", unique=True),
    _doc(),
)

call_receipts = Table(
    "call_receipts",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("batch", BigInteger, ForeignKey("call_batches.number"), nullable=False, index=True),
    _reference("ticket_id", "standing_orders.ticket_id", index=True),
    _reference("payer_id", "parties.party_id", index=True),
    _reference("operator_id", "parties.party_id", index=True),
    _text("occurred_at", index=True),
    Column("units", Integer, nullable=False),
    _doc(),
)

call_invoice_lines = Table(
    "call_invoice_lines",
    METADATA,
    Column("sequence", BigInteger, ForeignKey("call_receipts.sequence"), primary_key=True, autoincrement=False),
    _reference("invoice_id", "invoices.invoice_id", index=True),
    Column("amount_fen", BigInteger, nullable=False),
)

audit_entries = Table(
    "audit_entries",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _doc(),
    _doc("leaf_hash"),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    METADATA,
    Column("size", Integer, primary_key=True, autoincrement=False),
    _doc("note"),
    _doc("frontier"),
)

idempotency = Table(
    "idempotency",
    METADATA,
    _reference("party_id", "parties.party_id"),
    _text("person"),
    _text("key"),
    _text("fingerprint"),
    Column("response", LargeBinary, nullable=True),
    PrimaryKeyConstraint("party_id", "person", "key"),
)
