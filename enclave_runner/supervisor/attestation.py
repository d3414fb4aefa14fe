"""One attestation: what this enclave says of itself to somebody who asks, signed and recorded."""

from __future__ import annotations

from enclave_runner.contract.attestation import MAX_NONCE_BYTES, PURPOSE, Attestation
from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.signing import Signed, seal
from enclave_runner.contract.wire import AskAttestation
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.ledger import RECEIPT_ORIGIN


def attest(enclave: Enclave, request: AskAttestation) -> Signed:
    """The attestation for that nonce; it is in the enclave's log before anybody sees it.

    Raises:
        Refused: `attestation.nonce` when the nonce is empty or too long.
        Failed: `ledger.write`.
    """
    if not 1 <= len(request.nonce) <= MAX_NONCE_BYTES:
        raise Refused("attestation.nonce", max=MAX_NONCE_BYTES)
    checkpoint = enclave.ledger.checkpoint()
    data_versions = {held.dataset_id: held.version for held in enclave.holdings.newest()}
    made_at = enclave.now().replace(microsecond=0)

    def make(number: int) -> Signed:
        attestation = Attestation(
            number=number,
            nonce=request.nonce,
            assurance=enclave.measurement.assurance,
            key=enclave.key.public_key,
            measurement=enclave.measurement,
            policy_sha256=enclave.pack.sha256,
            jail=encode(enclave.limits.job_profile).decode(),
            probes=enclave.probes,
            data_versions=data_versions,
            origin=RECEIPT_ORIGIN,
            checkpoint=checkpoint,
            made_at=made_at,
        )
        return seal(attestation, PURPOSE, enclave.key)

    return enclave.attestations.append(make)
