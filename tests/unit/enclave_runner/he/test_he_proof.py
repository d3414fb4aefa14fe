"""The proof of the parameter sets, which runs at every start, and what it would catch."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from enclave_runner.contract.encryption import LINEAR, PARAMETER_SETS, SCORECARD
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.scoring import MAX_WEIGHTS, MILLION, Linear, Scorecard
from enclave_runner.he import proof


def test_every_set_is_proved_by_a_model_of_its_own() -> None:
    proof.prepare()
    assert {model.parameters for model in proof.MODELS} == set(PARAMETER_SETS)


def test_the_scorecard_that_proves_its_set_is_the_heaviest() -> None:
    card = proof.MODELS[0]
    assert isinstance(card, Scorecard)
    assert sum(abs(feature.weight) for feature in card.features) == MAX_WEIGHTS
    assert card.range[1] > 0.99 * SCORECARD.reach


def replaced(monkeypatch: pytest.MonkeyPatch, model: type[Any], **changes: object) -> None:
    monkeypatch.setattr(model, "parameters", dataclasses.replace(model.parameters, **changes))


def test_a_set_without_noise_budget_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plaintext modulus of 30 bits: the answer's one prime has nothing left for noise, and decrypts to anything."""
    replaced(monkeypatch, Scorecard, plain_modulus=1_073_692_673)
    with pytest.raises(Failed, match=r"scoring\.(budget|parameters)"):
        proof.prove(proof.MODELS[0])


def test_a_set_that_is_too_coarse_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that looks fine and is useless: a scale of 2^14 loses the weights' sum in the noise."""
    replaced(monkeypatch, Linear, scale_bits=14)
    with pytest.raises(Failed, match=r"scoring\.error"):
        proof.prove(proof.MODELS[1])


def test_a_set_whose_scores_wrap_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scale of 2^45 leaves 2^8 for scores, and this model reaches 40,000."""
    replaced(monkeypatch, Linear, scale_bits=45)
    with pytest.raises(Failed, match=r"scoring\.error"):
        proof.prove(proof.MODELS[1])
    assert proof.MODELS[1].range[1] == 40_000 * MILLION < LINEAR.reach * MILLION


def test_a_set_that_seal_refuses_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, Scorecard, degree=2048)
    with pytest.raises(Failed, match=r"scoring\.parameters"):
        proof.prove(proof.MODELS[0])
