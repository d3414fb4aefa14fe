"""One product as a client sees it: its verified terms, the hint at hand, and how questions are carried through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from enclave_runner.contract.call import MAX_ASKED, Offer
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.errors import Refused, YuneiError
from sandbox.client.answers import Lapsed, Unanswered, Verified, is_stale
from sandbox.client.calls import Asking, Pins
from sandbox.client.evidence import with_receipt
from sandbox.client.exchange import Flow
from sandbox.client.hints import HintCache, Progress, fetch_hint
from sandbox.client.modes import choose
from sandbox.client.moves import MOVES, Outcome, after, ask_lookup
from sandbox.client.offers import Terms, fetch_offer
from sandbox.client.problems import STALE, Declined
from sandbox.client.questions import Prepared, Question, prepare
from sandbox.client.scores import Features, Scored, ask_scores

# How many questions go into one chunk: P1 and P2 ask one by one, P3 and P4 share an evaluation.
CHUNK = {VerificationMode.PLAIN: MAX_ASKED, VerificationMode.BUCKET: 200, VerificationMode.LOOKUP: 200}


@dataclass(frozen=True)
class Wishes:
    """What the caller insists on: no mode weaker than that, no bucket of fewer than that, and where hints are kept."""

    weakest: VerificationMode | None = None
    k_min: int = 1
    cache: HintCache | None = None
    progress: Progress | None = None


@dataclass
class Session:
    """What is remembered between questions. Flows change it at their ends only, so threads may share it."""

    product_id: str
    pins: Pins
    wishes: Wishes = field(default_factory=Wishes)
    _terms: Terms | None = None
    _hint: tuple[str, bytes] | None = field(default=None, repr=False)

    def terms(self, *, renewed: bool = False) -> Flow[Terms]:
        """The terms at hand, or fresh ones when there are none or they are asked for.

        Those that expired are renewed for the same question at no higher price only: nobody agreed to more.
        """
        terms = self._terms
        if renewed or terms is None:
            terms = yield from self._fetched()
            self._terms = terms
        elif terms.offer.expires_at <= datetime.now(UTC):
            terms = yield from self.renew(terms)
        return terms

    def _fetched(self) -> Flow[Terms]:
        return (yield from fetch_offer(self.product_id, self.pins.trusted, datetime.now(UTC)))

    def offer(self) -> Flow[Offer]:
        """A fresh verified offer."""
        return (yield from self.terms(renewed=True)).offer

    def verify(self, question: Question, mode: VerificationMode | None) -> Flow[Verified]:
        """One question; why there is no answer is raised."""
        (outcome,) = yield from self.verify_many((question,), mode)
        if isinstance(outcome, Unanswered):
            raise with_receipt(outcome.error, outcome.receipt)
        return outcome

    def verify_many(
        self, questions: Sequence[Question], mode: VerificationMode | None
    ) -> Flow[tuple[Verified | Unanswered, ...]]:
        """An outcome for each question, in order. Answers are read after the last of them has been asked."""
        terms = yield from self.terms()
        chosen = choose(terms, mode, self.wishes.weakest, self.wishes.k_min)
        ready: list[tuple[int, Prepared]] = []
        outcomes: dict[int, Outcome] = {}
        for index, question in enumerate(questions):
            try:
                ready.append((index, prepare(question, terms, chosen)))
            except Refused as refused:
                outcomes[index] = Lapsed(refused)
        asked = yield from _Run(self, terms, chosen).ask([prepared for _, prepared in ready])
        outcomes |= {index: outcome for (index, _), outcome in zip(ready, asked, strict=True)}
        return tuple(outcomes[index].open() for index in range(len(questions)))

    def score(self, subjects: Sequence[str], features: Features) -> Flow[tuple[Scored | Unanswered, ...]]:
        """Scores under the terms at hand; when they are stale, once more under new ones of the same model and price."""
        terms = yield from self.terms()
        outcomes = yield from ask_scores(terms, self.pins, subjects, features)
        if not any(is_stale(outcome) for outcome in outcomes):
            return outcomes
        try:
            renewed = yield from self.renew(terms)
        except YuneiError as error:
            if not any(isinstance(outcome, Scored) for outcome in outcomes):
                raise
            return tuple(Unanswered(error) if is_stale(outcome) else outcome for outcome in outcomes)
        stale = [index for index, outcome in enumerate(outcomes) if is_stale(outcome)]
        part = {name: [column[index] for index in stale] for name, column in features.items()}
        again = yield from ask_scores(renewed, self.pins, [subjects[index] for index in stale], part)
        fresh = dict(zip(stale, again, strict=True))
        return tuple(fresh.get(index, outcome) for index, outcome in enumerate(outcomes))

    def renew(self, terms: Terms) -> Flow[Terms]:
        """New terms in place of those, if they are for the same question at no higher price. Others are not remembered:
        who looks at `offer` takes them up.

        Raises:
            Refused: `client.changed`.
        """
        renewed = yield from self._fetched()
        same = (renewed.offer.check, renewed.key_kind, renewed.column_type, renewed.offer.scale) == (
            terms.offer.check,
            terms.key_kind,
            terms.column_type,
            terms.offer.scale,
        )
        if not same or renewed.offer.charge.unit_price_fen > terms.offer.charge.unit_price_fen:
            raise Refused("client.changed")
        self._terms = renewed
        return renewed

    def hint(self, terms: Terms) -> Flow[bytes]:
        """The hint of these terms, from memory, from disk or from the platform; verified in each case."""
        table, cache = terms.table, self.wishes.cache
        if self._hint is not None and self._hint[0] == table.hint_sha256:
            return self._hint[1]
        data = cache.find(table) if cache is not None else None
        if data is None:
            data = yield from fetch_hint(terms, self.wishes.progress)
            if cache is not None:
                cache.keep(table, data)
        self._hint = (table.hint_sha256, data)
        return data


@dataclass
class _Run:
    """Several questions under terms that may be renewed between them, but for the better only: the same question over
    the same attribute, in the same mode. A platform cannot talk a caller out of its privacy by a new offer."""

    session: Session
    terms: Terms
    mode: VerificationMode

    def ask(self, prepared: Sequence[Prepared]) -> Flow[list[Outcome]]:
        """Chunk by chunk. A refusal ends its chunk, a fault or a lie everything after it."""
        outcomes: list[Outcome] = []
        size = CHUNK.get(self.mode, 1)
        end: YuneiError | None = None
        for first in range(0, len(prepared), size):
            chunk = prepared[first : first + size]
            try:
                if end is not None:
                    raise end
                outcomes += yield from self._ask_current(chunk)
            except YuneiError as error:
                end = None if isinstance(error, Declined) else error
                outcomes += [Lapsed(error)] * len(chunk)
        return outcomes

    def _ask_current(self, chunk: Sequence[Prepared]) -> Flow[list[Outcome]]:
        """One chunk, under a new version if the platform has one by now. A second evaluation costs again."""
        try:
            outcomes = yield from self._ask(chunk)
        except Declined as declined:
            if declined.rule != STALE:
                raise
            yield from self._renew()
            return (yield from self._ask(chunk))
        again = [index for index, outcome in enumerate(outcomes) if self._may_repeat(outcome)]
        if again:
            repeated = yield from self._repeat([chunk[index] for index in again])
            for index, outcome in zip(again, repeated, strict=True):
                outcomes[index] = after(outcomes[index], outcome)
        return outcomes

    def _may_repeat(self, outcome: Outcome) -> bool:
        """Whether a question that found a new version may be asked again in it.

        Not one of P3 whose bucket was named, unless there was one bucket only: the buckets of one subject in two
        versions have few subjects in common. Of P4 nothing was told.
        """
        if not isinstance(outcome, Lapsed) or not is_stale(outcome):
            return False
        table = self.terms.table
        is_hidden = self.mode is VerificationMode.LOOKUP or table.bucket_columns == table.columns
        return is_hidden or not outcome.is_told

    def _repeat(self, chunk: Sequence[Prepared]) -> Flow[list[Outcome]]:
        """Once more under new terms; what goes wrong ends these questions and leaves the answers of the others."""
        try:
            yield from self._renew()
            return (yield from self._ask(chunk))
        except YuneiError as error:
            return [Lapsed(error)] * len(chunk)

    def _ask(self, chunk: Sequence[Prepared]) -> Flow[list[Outcome]]:
        asking = Asking(self.terms, self.session.pins, self.mode)
        if self.mode is VerificationMode.LOOKUP:
            hint = yield from self.session.hint(self.terms)
            return list((yield from ask_lookup(asking, chunk, hint)))
        return list((yield from MOVES[self.mode](asking, chunk)))

    def _renew(self) -> Flow[None]:
        renewed = yield from self.session.renew(self.terms)
        choose(renewed, self.mode, self.session.wishes.weakest, self.session.wishes.k_min)
        self.terms = renewed
