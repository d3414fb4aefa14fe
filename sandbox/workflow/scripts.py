"""Scripts as kept beside their submissions: named by the digest of their bytes from the upload to the receipt."""

from __future__ import annotations

from enclave_runner.contract.codec import digest
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.script import ScriptJob
from sandbox.rules.access import Action, Record
from sandbox.rules.script import decide_script
from sandbox.store import submissions
from sandbox.store.database import reading
from sandbox.workflow.office import Actor, Office, authorize, is_allowed
from sandbox.workflow.submit import find_artefact, keep_artefact


def keep_script(office: Office, actor: Actor, content: bytes) -> str:
    """Store a script under its digest, which is returned; storing it again changes nothing.

    Raises:
        Refused: by access, for a party that could not submit it; `script.too-large`, `script.text`,
            `script.hidden-character`.
    """
    authorize(office, actor, Action.SUBMIT_JOB, Record("script", "new", (actor.party.party_id,)))
    decide_script(content).enforce()
    sha256 = digest(content)
    keep_artefact(office, sha256, content)
    return sha256


def read_script(office: Office, sha256: str) -> bytes:
    """An uploaded script, for a submission that names it.

    Raises:
        Refused: `script.unknown`; as `keep_script` does for a file of that digest that is no script.
    """
    content = find_artefact(office, sha256)
    if content is None:
        raise Refused("script.unknown")
    decide_script(content).enforce()
    return content


def show_script(office: Office, actor: Actor, sha256: str) -> bytes:
    """The bytes of a submitted script, for reviewers and for the operator that submitted it.

    Raises:
        Refused: `script.unknown`, also where somebody else submitted it: what others run is not told.
    """
    with reading(office.engine) as connection:
        asked = submissions.with_input(connection, sha256)
    reviews = is_allowed(office, actor, Action.REVIEW_SUBMISSION, Record("script", sha256))
    owners = {item.operator_id for item in asked if isinstance(item.job, ScriptJob)}
    if not owners or not (reviews or actor.party.party_id in owners):
        raise Refused("script.unknown")
    authorize(office, actor, Action.READ_SUBMISSION, Record("script", sha256, tuple(sorted(owners))))
    return read_script(office, sha256)
