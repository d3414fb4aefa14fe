"""Egress review: who judged what a job gave, how many must, and which submissions have which input.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLE = "egress_reviews"


def upgrade() -> None:
    """Nothing that is there changes: what ran before needed no egress review. Older inputs are not looked up."""
    op.add_column("submissions", sa.Column("egress_approvals", sa.Integer(), server_default="0", nullable=False))
    op.add_column("submissions", sa.Column("input_sha256", sa.String(length=200), nullable=True))
    op.create_index(op.f("ix_submissions_input_sha256"), "submissions", ["input_sha256"], unique=False)
    op.create_table(
        TABLE,
        sa.Column("submission_id", sa.String(length=200), nullable=False),
        sa.Column("reviewer", sa.String(length=200), nullable=False),
        sa.Column("doc", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.submission_id"], name=op.f("fk_egress_reviews_submission_id")
        ),
        sa.PrimaryKeyConstraint("submission_id", "reviewer", name=op.f("pk_egress_reviews")),
    )
    for statement in _triggers(op.get_bind().dialect.name):
        op.execute(statement)


def downgrade() -> None:
    """Ledgers are not dropped."""
    raise NotImplementedError("the reviews of releases are evidence")


def _triggers(dialect: str) -> list[str]:
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {TABLE}_no_{verb} BEFORE {verb.upper()} ON {TABLE} "
            f"BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END"
            for verb in ("update", "delete")
        ]
    return [
        f"CREATE FUNCTION {TABLE}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{TABLE} is append-only'; END $$",
        f"CREATE TRIGGER {TABLE}_append_only BEFORE UPDATE OR DELETE ON {TABLE} "
        f"FOR EACH ROW EXECUTE FUNCTION {TABLE}_append_only()",
    ]
