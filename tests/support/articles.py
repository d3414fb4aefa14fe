"""Values of the domain in their smallest legal form, for the tests of the articles: each test breaks one thing."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from stdnum.cn import uscc

from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.grant import Grant, Mode, Purpose, Scope
from enclave_runner.contract.privacy import RHO_UNIT, PrivacyLoss
from sandbox.domain.dataset import Dataset, Form, Frequency, Opening, Sharing
from sandbox.domain.metering import Tariff
from sandbox.domain.party import Party, Role
from sandbox.domain.scenario import Scenario

NOW = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
# A sample of python-stdnum: valid by GB 32100-2015, and no organisation is meant.
CREDIT_CODE = "91110000600037341L"


def credit_code_of(party_id: str) -> str:
    """A valid code of that party's own; that of `operator-a` is the sample."""
    if party_id == "operator-a":
        return CREDIT_CODE
    body = "91110000" + "".join(f"{byte % 10}" for byte in hashlib.sha256(party_id.encode()).digest()[:9])
    return body + str(uscc.calc_check_digit(body))


def a_column(name: str = "amount", **changes: object) -> Column:
    """An ordinary numeric column."""
    fields: dict[str, object] = {"title": "金额", "type": ColumnType.INTEGER, "bounds": (0, 100)}
    return Column(name=name, **{**fields, **changes})  # type: ignore[arg-type]


def a_spec(*columns: Column, **changes: object) -> DatasetSpec:
    """A table of residents, one row each, with the given columns beside the key."""
    key = Column(name="resident_id", title="公民身份号码", type=ColumnType.TEXT, grade=3)
    fields: dict[str, object] = {
        "dataset_id": "insurance",
        "columns": (key, *(columns or (a_column(),))),
        "entity_set": "resident",
        "entity_column": "resident_id",
        "key_kind": KeyKind.RESIDENT_ID,
        "population_cap": 1000,
        "unique": True,
        "rows_per_entity": 1,
    }
    return DatasetSpec(**{**fields, **changes})  # type: ignore[arg-type]


def a_dataset(**changes: object) -> Dataset:
    """A catalogued dataset."""
    fields: dict[str, object] = {
        "title": "社会保险参保信息",
        "department_id": "social-security",
        "form": Form.TABLE,
        "category": "民生保障",
        "sharing": Sharing.CONDITIONAL,
        "opening": Opening.NONE,
        "frequency": Frequency.MONTHLY,
        "source": "generated",
        "personal": True,
        "spec": a_spec(),
    }
    return Dataset(**{**fields, **changes})  # type: ignore[arg-type]


def grant_fields() -> dict[str, object]:
    """Every element of a grant, by name."""
    return {
        "grant_id": "g-1",
        "operator_id": "operator-a",
        "operator_code": CREDIT_CODE,
        "scenario_id": "poverty-relief",
        "purpose": Purpose.PUBLIC_INTEREST,
        "modes": (Mode.QUERY,),
        "scopes": (Scope(dataset_id="insurance", columns=("amount",)),),
        "not_before": NOW,
        "deadline": NOW + timedelta(days=90),
        "budgets": (PrivacyLoss(entity_set="resident", pico_rho=RHO_UNIT),),
        "max_uses": 100,
    }


def a_grant(**changes: object) -> Grant:
    """A grant that an officer could sign."""
    return Grant(**{**grant_fields(), **changes})  # type: ignore[arg-type]


def a_party(**changes: object) -> Party:
    """An operator."""
    fields: dict[str, object] = {
        "party_id": "operator-a",
        "name": "甲公司",
        "role": Role.OPERATOR,
        "credit_code": CREDIT_CODE,
    }
    return Party(**{**fields, **changes})  # type: ignore[arg-type]


def a_scenario(**changes: object) -> Scenario:
    """An authorized scenario of public interest."""
    fields: dict[str, object] = {
        "scenario_id": "poverty-relief",
        "operator_id": "operator-a",
        "title": "困难群众精准救助",
        "purpose": Purpose.PUBLIC_INTEREST,
        "evidence_sha256": "a" * 64,
        "recipients": (),
        "valid_until": NOW + timedelta(days=365),
    }
    return Scenario(**{**fields, **changes})  # type: ignore[arg-type]


def a_tariff(**changes: object) -> Tariff:
    """A tariff for industry use."""
    fields: dict[str, object] = {
        "tariff_id": "verification-industry",
        "mode": Mode.VERIFICATION,
        "purpose": Purpose.INDUSTRY,
        "unit_price_fen": 50,
        "cap_fen": 80,
        "legal_basis": "包府发〔2023〕32号 第三十五条",
    }
    return Tariff(**{**fields, **changes})  # type: ignore[arg-type]
