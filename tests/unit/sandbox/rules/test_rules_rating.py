from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.contract.grant import Mode, Purpose
from enclave_runner.contract.rulebook import PolicyPack
from sandbox.rules.rating import charge_for, read_tariffs
from sandbox.settings import pack_folder
from tests.support.refusals import failed_at

TEXT = (pack_folder() / "tariffs.toml").read_text(encoding="utf-8")
TARIFFS = read_tariffs(PolicyPack(pack_folder()))


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("purpose", list(Purpose))
def test_the_price_follows_from_purpose_and_mode(mode: Mode, purpose: Purpose) -> None:
    charge = charge_for(TARIFFS, purpose, mode)
    assert (charge.unit_price_fen == 0) == purpose.is_free
    assert "第三十五条" in charge.legal_basis
    assert charge.tariff_id.startswith(mode.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("unit_price_fen = 50", "unit_price_fen = 101"),
        ("unit_price_fen = 50", "unit_price_fen = -1"),
        ("unit_price_fen = 50", "unit_price_fen = 0.5"),
        ("unit_price_fen = 50", "unit_price_fen = true"),
        ("unit_price_fen = 0\ncap_fen = 0", "unit_price_fen = 1\ncap_fen = 1"),
        ('mode = "model"', 'mode = "query"'),
        ('mode = "model"', 'mode = "gift"'),
        ("[model-industry]", "[[model-industry]]"),
        ("cap_fen = 100\n", ""),
    ],
)
def test_a_wrong_tariff_keeps_the_pack_from_loading(tmp_path: Path, old: str, new: str) -> None:
    assert old in TEXT
    (tmp_path / "rules.toml").write_text("")
    (tmp_path / "tariffs.toml").write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with failed_at("policy.tariffs"):
        read_tariffs(PolicyPack(tmp_path))


def test_a_missing_tariff_keeps_the_pack_from_loading(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("")
    (tmp_path / "tariffs.toml").write_text(TEXT[: TEXT.index("[model-industry]")], encoding="utf-8")
    with failed_at("policy.tariffs"):
        read_tariffs(PolicyPack(tmp_path))
