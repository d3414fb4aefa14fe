"""Encrypted scoring (P5): a public model over a business's encrypted features, and points of the platform's own.

The weights are public and registered by their digest. The platform's points are computed in the enclave from granted
columns, in whole numbers, and only added (docs/verification.md). That no score can leave the range of its parameter
set, and how large an error CKKS can make, follows from the declared ranges when a model is made: a model without that
proof does not exist.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import ClassVar

from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.codec import Value, digest, encode
from enclave_runner.contract.dataset import SLUG
from enclave_runner.contract.encryption import LINEAR, NETWORK, SCORECARD, ParameterSet
from enclave_runner.contract.grant import Mode

MAX_FEATURES, MAX_NEURONS, MAX_SCALE = 64, 32, 6
MILLION = 10**6
# Beyond the first, a scorecard could lose its noise budget; beyond the second, CKKS the last digits of an input.
MAX_WEIGHTS, MAX_INPUT = 1 << 16, 10_000
MAX_ERROR = 1e-4
# Eight standard deviations of one slot's error, times the scale, at N = 8192: a fresh encryption (Gaussian, 3.2) with
# its encoding; a rescaling and a fresh zero, of two polynomials; the same of three (docs/verification.md derives them).
FRESH, ROUNDED, ROUNDED_SQUARE = 1_700, 150_000, 31_000_000

Range = tuple[int, int]


class Link(Enum):
    """What the business makes of the decrypted score: nothing, or the probability 1 / (1 + exp(-score))."""

    NONE = "none"
    LOGISTIC = "logistic"


class Term(Value, frozen=True):
    """`weight` points for each whole `step` (units of 10^-scale) of one granted column, clipped to [low, high] first.

    The coarser the step, the less the points tell of the column: with weight and step 1 they are the clipped value.
    """

    column: str
    weight: int
    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        _require(bool(self.column) and self.low <= self.high and self.weight != 0, "a term: column, range, weight")
        _require(self.step > 0, "a step is positive")

    def points(self, cell: int) -> int:
        """What a cell that is not empty counts."""
        return self.weight * (min(max(cell, self.low), self.high) // self.step)

    @property
    def cells(self) -> int:
        """How many different cells it tells apart."""
        return self.high // self.step - self.low // self.step + 1

    @property
    def range(self) -> Range:
        """The least and the greatest points of it; nothing for an empty cell or an unknown subject."""
        ends = (self.points(self.low), self.points(self.high), 0)
        return min(ends), max(ends)


class Feature(Value, frozen=True):
    """One encrypted feature of the business, from low to high, and its public weight."""

    name: str
    weight: int
    low: int
    high: int

    def __post_init__(self) -> None:
        # A zero would make the product transparent, and the way of the computation visible.
        _require(bool(self.name) and self.low <= self.high and self.weight != 0, "a feature: name, range, weight")

    @property
    def range(self) -> Range:
        """The least and the greatest that it adds to the score."""
        ends = (self.weight * self.low, self.weight * self.high)
        return min(ends), max(ends)


class _Weighted(Value, frozen=True):
    """What models with one weight for each feature share."""

    features: tuple[Feature, ...]
    intercept: int = 0
    link: Link = Link.NONE

    @property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of their ciphertexts."""
        return tuple(feature.name for feature in self.features)

    @property
    def domains(self) -> tuple[Range, ...]:
        """From where to where each feature goes."""
        return tuple((feature.low, feature.high) for feature in self.features)

    @property
    def range(self) -> Range:
        """The least and the greatest score without the platform's points, in points."""
        return _added(self.intercept, (feature.range for feature in self.features))

    def computed(self, row: Sequence[float]) -> float:
        """The score of one subject without the platform's points, in points: exact for whole numbers."""
        return self.intercept + sum(feature.weight * value for feature, value in zip(self.features, row, strict=True))


class Scorecard(_Weighted, frozen=True, tag="scorecard"):
    """intercept + Σ weight · feature + points, exact in BFV. Features are whole numbers.

    Points count in units of 10^-scale: a logistic model has its weights rounded to that many digits.
    """

    parameters: ClassVar[ParameterSet] = SCORECARD

    scale: int = 0

    def __post_init__(self) -> None:
        _require_names(self.names, self.parameters)
        _require(0 <= self.scale <= MAX_SCALE, "a scale from 0 to 6")
        _require(
            sum(abs(feature.weight) for feature in self.features) <= MAX_WEIGHTS, "weights of at most 65536 in sum"
        )
        _require_reach(self.range, self.parameters, 1)

    @property
    def unit(self) -> int:
        """How many points make a score of one."""
        return int(10**self.scale)


class Linear(_Weighted, frozen=True, tag="linear"):
    """intercept + Σ weight · feature + points, in CKKS: weights, intercept and points are millionths."""

    parameters: ClassVar[ParameterSet] = LINEAR
    unit: ClassVar[int] = MILLION

    def __post_init__(self) -> None:
        _require_names(self.names, self.parameters)
        _require_inputs(self.domains)
        _require_reach(self.range, self.parameters, self.unit)
        _require(self.error <= MAX_ERROR, "weights that keep the error below 0.0001")

    @property
    def error(self) -> float:
        """What the decrypted score differs from the true one at most, but for a chance of 2^-49 in each slot."""
        weights = [feature.weight / MILLION for feature in self.features]
        return _weighing_error(weights, self.domains, self.parameters)


class Input(Value, frozen=True):
    """One encrypted feature of a network: a number from low to high."""

    name: str
    low: int
    high: int

    def __post_init__(self) -> None:
        _require(bool(self.name) and self.low <= self.high, "an input: name, range")


class Neuron(Value, frozen=True):
    """output · (bias + Σ weight · input)², in millionths: square activation."""

    weights: tuple[int, ...]
    bias: int
    output: int

    def __post_init__(self) -> None:
        _require(self.output != 0 and all(self.weights), "weights that are not zero")

    def activations(self, domains: Iterable[Range]) -> tuple[float, float]:
        """From where to where bias + Σ weight · input goes."""
        pairs = zip(self.weights, domains, strict=True)
        low, high = _added(self.bias, ((min(w * a, w * b), max(w * a, w * b)) for w, (a, b) in pairs))
        return low / MILLION, high / MILLION


class Network(Value, frozen=True, tag="network"):
    """intercept + Σ neuron + points in CKKS: one hidden layer with square activation, everything in millionths."""

    parameters: ClassVar[ParameterSet] = NETWORK
    unit: ClassVar[int] = MILLION

    features: tuple[Input, ...]
    neurons: tuple[Neuron, ...]
    intercept: int = 0
    link: Link = Link.NONE

    def __post_init__(self) -> None:
        _require_names(self.names, self.parameters)
        _require_inputs(self.domains)
        _require(0 < len(self.neurons) <= MAX_NEURONS, "1 to 32 neurons")
        _require(all(len(neuron.weights) == len(self.features) for neuron in self.neurons), "a weight for each input")
        _require_reach(self.range, self.parameters, self.unit)
        _require(self.error <= MAX_ERROR, "weights that keep the error below 0.0001")

    @property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of their ciphertexts."""
        return tuple(feature.name for feature in self.features)

    @property
    def domains(self) -> tuple[Range, ...]:
        """From where to where each feature goes."""
        return tuple((feature.low, feature.high) for feature in self.features)

    @property
    def range(self) -> Range:
        """The least and the greatest score without the platform's points, in points (rounded outwards)."""
        low = high = float(self.intercept)
        for neuron in self.neurons:
            most = neuron.output * max(end * end for end in neuron.activations(self.domains))
            low, high = low + min(most, 0), high + max(most, 0)
        return math.floor(low), math.ceil(high)

    @property
    def error(self) -> float:
        """What the decrypted score differs from the true one at most, but for a chance of 2^-49 in each slot."""
        total = math.ldexp(ROUNDED_SQUARE, -self.parameters.scale_bits)
        for neuron in self.neurons:
            output = math.sqrt(abs(neuron.output) / MILLION)
            weights = [output * weight / MILLION for weight in neuron.weights]
            most = output * max(map(abs, neuron.activations(self.domains)))
            off = _weighing_error(weights, self.domains, self.parameters)
            total += off * (2 * most + off)
        return total

    def computed(self, row: Sequence[float]) -> float:
        """The score of one subject without the platform's points, in points."""
        score = float(self.intercept)
        for neuron in self.neurons:
            sums = math.fsum(weight * value for weight, value in zip(neuron.weights, row, strict=True))
            activation = (neuron.bias + sums) / MILLION
            score += neuron.output * activation * activation
        return score


Model = Scorecard | Linear | Network


class ScoreCheck(Value, frozen=True, tag="score"):
    """A scoring product: the model over the business's features, and the platform's terms over one dataset.

    A term counts in points of the model: whole ones of a scorecard, millionths of a CKKS model.
    """

    dataset_id: str
    model: Model
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        columns = [term.column for term in self.terms]
        _require(SLUG.fullmatch(self.dataset_id) is not None, "dataset")
        _require(0 < len(set(columns)) == len(columns) <= MAX_FEATURES, "1 to 64 terms, each over a column of its own")
        (low, high), (least, most) = self.model.range, self.points
        _require_reach((low + least, high + most), self.model.parameters, self.model.unit)

    @property
    def mode(self) -> Mode:
        """The grant mode that this product needs."""
        return Mode.VERIFICATION

    @property
    def modes(self) -> tuple[VerificationMode, ...]:
        """How it may be asked."""
        return (VerificationMode.SCORE,)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The columns that it reads, beside the key."""
        return tuple(term.column for term in self.terms)

    @property
    def points(self) -> Range:
        """The least and the greatest points that the platform adds."""
        return _added(0, (term.range for term in self.terms))

    @property
    def outcomes(self) -> int:
        """How many answers there are about one subject, at most: the logarithm bounds what one answer tells.

        A business knows its features, so it learns the points: any whole number in their range, or one of the
        combinations of clipped cells (and empty ones), or that nothing is on record.
        """
        (low, high), combinations = self.points, math.prod(term.cells + 1 for term in self.terms)
        return min(high - low + 1, combinations) + 1

    @property
    def model_sha256(self) -> str:
        """The digest under which the public weights are registered."""
        return digest(encode(self.model))


def _added(start: int, ranges: Iterable[Range]) -> Range:
    low = high = start
    for least, most in ranges:
        low, high = low + least, high + most
    return low, high


def _weighing_error(weights: Sequence[float], domains: Iterable[Range], parameters: ParameterSet) -> float:
    """Of one weighted sum: fresh errors, one rescaling, and weights that are rounded to the dropped prime (2^40)."""
    inputs = sum(max(-low, high) for low, high in domains)
    return math.ldexp(FRESH * math.hypot(*weights) + ROUNDED, -parameters.scale_bits) + math.ldexp(inputs, -41)


def _require_names(names: tuple[str, ...], parameters: ParameterSet) -> None:
    most = min(MAX_FEATURES, parameters.most_features)
    _require(0 < len(set(names)) == len(names) <= most, f"1 to {most} features, each once")


def _require_inputs(domains: Iterable[Range]) -> None:
    _require(all(max(-low, high) <= MAX_INPUT for low, high in domains), "inputs of at most 10000")


def _require_reach(scores: Range, parameters: ParameterSet, unit: int) -> None:
    """No score may leave the range in which it decrypts to itself: beyond, it would wrap in silence."""
    most = parameters.reach * unit
    _require(-most <= scores[0] and scores[1] <= most, f"scores of at most {parameters.reach}")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)
