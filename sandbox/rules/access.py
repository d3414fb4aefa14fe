"""Who may do what: Cedar decides, and its refusals come back as rules of the pack.

Cedar without a schema can fail open, and its default deny names no reason. Therefore the schema always goes with the
request, only the exact Allow without any error counts, and every condition is a forbid of its own with an @id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import cedarpy

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.rulebook import PolicyPack
from sandbox.domain.decision import ALLOWED, Decision, refuse
from sandbox.domain.party import Party, PartyStatus

POLICY_FILE, SCHEMA_FILE = "access.cedar", "access.cedarschema"
DENIED = "access.denied"
DECISIONS = 4096


class Action(Enum):
    """Every action that access.cedarschema declares."""

    REGISTER_PARTY = "registerParty"
    SUSPEND_PARTY = "suspendParty"
    MANAGE_KEYS = "manageKeys"
    IMPORT_DATASET = "importDataset"
    AUTHORIZE_SCENARIO = "authorizeScenario"
    DRAFT_GRANT = "draftGrant"
    SIGN_GRANT = "signGrant"
    REVOKE_GRANT = "revokeGrant"
    SUBMIT_JOB = "submitJob"
    REVIEW_SUBMISSION = "reviewSubmission"
    PUBLISH_PRODUCT = "publishProduct"
    SUSPEND_PRODUCT = "suspendProduct"
    OPEN_PRODUCT = "openProduct"
    CALL_PRODUCT = "callProduct"
    FILE_CONSENT = "fileConsent"
    ISSUE_INVOICE = "issueInvoice"
    READ_AUDIT = "readAudit"
    READ_ALARMS = "readAlarms"
    READ_BUDGET = "readBudget"
    READ_PARTY = "readParty"
    READ_SCENARIO = "readScenario"
    READ_GRANT = "readGrant"
    READ_SUBMISSION = "readSubmission"
    READ_RELEASE = "readRelease"
    READ_METER = "readMeter"
    READ_INVOICE = "readInvoice"
    READ_CONSENT = "readConsent"
    READ_CATALOGUE = "readCatalogue"
    READ_PRODUCT = "readProduct"


@dataclass(frozen=True)
class Record:
    """What an action touches: its kind, its id, and the parties whose own it is."""

    kind: str
    record_id: str
    owners: tuple[str, ...] = ()


class AccessPolicy:
    """The parsed policies and their schema.

    Raises:
        Failed: `policy.access` when they do not parse or do not validate: nothing runs under doubtful rules.
    """

    def __init__(self, policies: str, schema: str) -> None:
        try:
            if not cedarpy.validate_policies(policies, schema).validation_passed:
                raise ValueError("policies do not fit the schema")
            self._policies = cedarpy.PolicySet.from_str(policies)
            self._schema = cedarpy.Schema.from_str(schema)
            parsed = json.loads(cedarpy.policies_to_json_str(policies))["staticPolicies"]
            self._ids = {policy_id: str(policy["annotations"]["id"]) for policy_id, policy in parsed.items()}
            self.articles = {
                str(policy["annotations"]["id"]): str(policy["annotations"]["article"])
                for policy in parsed.values()
                if policy["effect"] == "forbid"
            }
        except (ValueError, KeyError, TypeError):
            raise Failed("policy.access") from None
        self._decided = lru_cache(DECISIONS)(self._decide)

    def decide(self, party: Party, action: Action, record: Record) -> Decision:
        """Allowed, or refused by the first condition in the file that does not hold.

        A decision follows from these three values and the policies alone, so that the newest ones are remembered.
        """
        return self._decided(party, action, record)

    def _decide(self, party: Party, action: Action, record: Record) -> Decision:
        request = {
            "principal": {"type": "Yunei::Party", "id": party.party_id},
            "action": {"type": "Yunei::Action", "id": action.value},
            "resource": {"type": "Yunei::Record", "id": f"{record.kind}/{record.record_id}"},
            "context": {},
        }
        answer = cedarpy.is_authorized(request, self._policies, _entities(party, record), schema=self._schema)
        clean = not answer.diagnostics.errors
        if answer.decision is cedarpy.Decision.Allow and clean:
            return ALLOWED
        rule = self._first_forbid(answer.diagnostics.reasons) if clean else DENIED
        return refuse(rule, action=action.value, party=party.party_id, role=party.role.value)

    def _first_forbid(self, reasons: list[str]) -> str:
        """The id of the first matching forbid in file order; Cedar numbers policies in that order."""
        ordered = sorted(reasons, key=lambda reason: int(reason.removeprefix("policy")))
        return self._ids[ordered[0]] if ordered else DENIED


def read_access(pack: PolicyPack) -> AccessPolicy:
    """The pack's access policies.

    Raises:
        Failed: `policy.access`.
    """
    try:
        return AccessPolicy(pack.files[POLICY_FILE].decode(), pack.files[SCHEMA_FILE].decode())
    except KeyError:
        raise Failed("policy.access") from None


def _entities(party: Party, record: Record) -> list[dict[str, object]]:
    return [
        {
            "uid": {"type": "Yunei::Party", "id": party.party_id},
            "attrs": {
                "name": party.party_id,
                "role": party.role.value,
                "active": party.status is PartyStatus.ACTIVE,
            },
            "parents": [],
        },
        {
            "uid": {"type": "Yunei::Record", "id": f"{record.kind}/{record.record_id}"},
            "attrs": {"kind": record.kind, "owners": list(record.owners)},
            "parents": [],
        },
    ]
