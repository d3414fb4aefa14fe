"""The one place where a business's ciphertexts are multiplied: by the weights of a registered model, or by each other.

Nothing else comes in: a secret of the platform that met a ciphertext of the business's making as a factor could be read
from its noise (docs/verification.md). The platform's points are added elsewhere, by code that cannot multiply;
tests/unit/enclave_runner/he/test_he_rule.py holds both modules to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tenseal.sealapi as seal

from enclave_runner.contract.ciphertext import Ring
from enclave_runner.contract.scoring import MILLION, Linear, Model, Network, Scorecard


def evaluate(ring: Ring, model: Model, features: Sequence[Any]) -> Any:
    """The model's weighted sum, or its sum of squares, over one ciphertext for each feature. No intercept.

    Takes the features over. The result is at the level of the answer for CKKS, at the fresh level for BFV.
    """
    evaluator = seal.Evaluator(ring.context)
    match model:
        case Scorecard():
            return _scorecard(evaluator, model, features)
        case Linear():
            weights = [feature.weight / MILLION for feature in model.features]
            return _weighted(evaluator, ring, weights, features)
        case Network():
            return _network(evaluator, ring, model, features)


def _scorecard(evaluator: Any, model: Scorecard, features: Sequence[Any]) -> Any:
    """Σ weight · feature. Signs are taken apart: SEAL multiplies by t - |w| for -|w|, and the noise grows with t."""
    terms = []
    for feature, ciphertext in zip(model.features, features, strict=True):
        weight = seal.Plaintext(f"{abs(feature.weight):X}")
        evaluator.multiply_plain_inplace(ciphertext, weight)
        if feature.weight < 0:
            evaluator.negate_inplace(ciphertext)
        terms.append(ciphertext)
    return _sum(evaluator, terms)


def _weighted(evaluator: Any, ring: Ring, weights: Sequence[float], features: Sequence[Any]) -> Any:
    """Σ weight · feature, at the features' scale: each weight is encoded at the prime that the rescaling divides by."""
    prime, terms = float(ring.parameters.data_primes[-1]), []
    for number, ciphertext in zip(weights, features, strict=True):
        weight, term = seal.Plaintext(), seal.Ciphertext()
        ring.encoder.encode(number, ciphertext.parms_id(), prime, weight)
        evaluator.multiply_plain(ciphertext, weight, term)
        terms.append(term)
    total = _sum(evaluator, terms)
    evaluator.rescale_to_next_inplace(total)
    return total


def _network(evaluator: Any, ring: Ring, model: Network, features: Sequence[Any]) -> Any:
    """Σ ± (√|output| · (bias + Σ weight · input))²: the output weight goes into the square, and one product is saved.

    The squares stay at three polynomials, which the business's key opens as well: no relinearisation key is needed.
    """
    total: Any = None
    for neuron in model.neurons:
        output = math.sqrt(abs(neuron.output) / MILLION)
        weights = [output * weight / MILLION for weight in neuron.weights]
        activation, bias = _weighted(evaluator, ring, weights, features), seal.Plaintext()
        ring.encoder.encode(output * neuron.bias / MILLION, activation.parms_id(), activation.scale, bias)
        evaluator.add_plain_inplace(activation, bias)
        evaluator.square_inplace(activation)
        if neuron.output < 0:
            evaluator.negate_inplace(activation)
        total = activation if total is None else _sum(evaluator, (total, activation))
    evaluator.rescale_to_next_inplace(total)
    return total


def _sum(evaluator: Any, terms: Sequence[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        evaluator.add_inplace(total, term)
    return total
