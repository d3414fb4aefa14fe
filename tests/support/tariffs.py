"""The price tag that the shipped policy pack gives a use."""

from __future__ import annotations

import tomllib

from enclave_runner.contract.grant import Mode, Purpose
from enclave_runner.contract.ticket import Charge
from sandbox.settings import pack_folder


def pack_charge(mode: Mode, purpose: Purpose) -> Charge:
    """The charge of that kind of use for that purpose."""
    for tariff_id, tariff in tomllib.loads((pack_folder() / "tariffs.toml").read_text(encoding="utf-8")).items():
        if (tariff["mode"], tariff["purpose"]) == (mode.value, purpose.value):
            return Charge(
                tariff_id=tariff_id, unit_price_fen=tariff["unit_price_fen"], legal_basis=tariff["legal_basis"]
            )
    raise LookupError(mode, purpose)
