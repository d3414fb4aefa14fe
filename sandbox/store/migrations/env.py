"""Run by alembic, on the connection and inside the transaction that `sandbox.store.database.upgrade` gives."""

from __future__ import annotations

from alembic import context

from sandbox.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
