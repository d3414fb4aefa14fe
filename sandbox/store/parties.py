"""Parties as stored."""

from __future__ import annotations

from sandbox.domain.party import Party
from sandbox.store import schema
from sandbox.store.documents import Documents

PARTIES = Documents(schema.parties, Party, lambda party: {"party_id": party.party_id, "status": party.status.value})
