"""The client of a verification product: ask, and get an answer that the enclave signed.

from sandbox import client as yunei

with yunei.VerificationClient("https://…", key, "licence-valid", trusted="ed25519:…") as client:
    answer = client.verify("91330106MA2B0C1D2E", claim="active")
    print(answer.verdict, answer.mode, answer.price_fen)
    answer.receipt.save(Path("receipt.json"))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from enclave_runner.contract.call import Offer
from enclave_runner.contract.check import VerificationMode
from sandbox.client.answers import Unanswered, Verified
from sandbox.client.calls import Pins
from sandbox.client.exchange import run, run_async
from sandbox.client.hints import HintCache, Progress, default_folder
from sandbox.client.offers import checked_product
from sandbox.client.questions import Question
from sandbox.client.scores import Features, Scored
from sandbox.client.session import Session, Wishes
from sandbox.client.transport import AsyncTransport, Door, Transport
from sandbox.client.trust import Trusted, trusted_keys

Asked = str | Question


class _Product:
    """One product of one platform; what blocking and asynchronous clients have in common.

    `trusted` are the enclave's keys, had beforehand and not from the platform (`algorithm:hex`, or values). `cache` is
    the folder of hints (None: the user's cache folder, if there is one), `keep_hints=False` leaves none on disk.
    `weakest` is the least private mode that is ever used; when it is not told, a missing extra never opens a question
    that could be hidden. `k_min` is the smallest bucket that P3 may name. `caller` is the business's own party and
    `measurement` the digest of what runs in the enclave: given, they must stand in every receipt. `door` replaces
    address and key where more is to be said of them (certificates, proxy, deadlines).

    Raises:
        ValueError: an address without TLS, a malformed key, product id or trusted key, or nobody trusted.
    """

    def __init__(
        self,
        url: str,
        key: str,
        product: str,
        *,
        trusted: Trusted,
        cache: Path | None = None,
        keep_hints: bool = True,
        weakest: VerificationMode | None = None,
        k_min: int = 1,
        caller: str | None = None,
        measurement: str | None = None,
        progress: Progress | None = None,
        door: Door | None = None,
    ) -> None:
        folder = cache or default_folder()
        hints = HintCache(folder) if keep_hints and folder is not None else None
        pins = Pins(trusted_keys(trusted), caller, measurement)
        self._session = Session(checked_product(product), pins, Wishes(weakest, k_min, hints, progress))
        self._door = door or Door(url, key)


class VerificationClient(_Product):
    """Blocking client of one product; several threads may share it."""

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self._door)

    def offer(self) -> Offer:
        """What the product answers now, verified.

        Raises:
            Refused: `signature.invalid`, `client.offer`, `Declined` by a rule of the platform.
            Failed: `client.unreachable`, `client.platform`.
        """
        return run(self._session.offer(), self._transport.send)

    def verify(
        self,
        subject: str,
        claim: str | None = None,
        at_least: str | int | None = None,
        mode: VerificationMode | str | None = None,
    ) -> Verified:
        """One question, in the most private mode that product and machine have, or in the one that is told.

        Raises:
            Refused: `client.…` before anything is sent, or when the platform does not keep to the protocol; `Declined`
                when a rule of the platform says no. `signature.invalid` and `call.not-in-batch` for receipts.
            Failed: `client.unreachable`, `client.platform`, `client.extra`.
        """
        question = Question(subject, claim, at_least)
        return run(self._session.verify(question, _mode(mode)), self._transport.send)

    def verify_many(
        self, questions: Iterable[Asked], mode: VerificationMode | str | None = None
    ) -> tuple[Verified | Unanswered, ...]:
        """An outcome for each question, in order; what one lacks does not take the others' answers away.

        Raises:
            Refused, Failed: for what concerns them all before the first is asked (offer, mode).
        """
        return run(self._session.verify_many(_questions(questions), _mode(mode)), self._transport.send)

    def score(self, subjects: Sequence[str], features: Features) -> tuple[Scored | Unanswered, ...]:
        """A scoring product's score of each subject; for each feature of the model one number for each subject.

        Features leave encrypted under a key that is made for the call and forgotten with it.

        Raises:
            Refused: `client.mode`, `client.subject`, `client.features`, `scoring.…` before anything is sent.
            Failed: `client.extra` without the extra `he`.
        """
        return run(self._session.score(subjects, features), self._transport.send)

    def close(self) -> None:
        """End the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        """Closed at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the connections."""
        self.close()


class AsyncVerificationClient(_Product):
    """The same for an event loop."""

    @cached_property
    def _transport(self) -> AsyncTransport:
        return AsyncTransport(self._door)

    async def offer(self) -> Offer:
        """As `VerificationClient.offer`."""
        return await run_async(self._session.offer(), self._transport.send)

    async def verify(
        self,
        subject: str,
        claim: str | None = None,
        at_least: str | int | None = None,
        mode: VerificationMode | str | None = None,
    ) -> Verified:
        """As `VerificationClient.verify`."""
        question = Question(subject, claim, at_least)
        return await run_async(self._session.verify(question, _mode(mode)), self._transport.send)

    async def verify_many(
        self, questions: Iterable[Asked], mode: VerificationMode | str | None = None
    ) -> tuple[Verified | Unanswered, ...]:
        """As `VerificationClient.verify_many`."""
        return await run_async(self._session.verify_many(_questions(questions), _mode(mode)), self._transport.send)

    async def score(self, subjects: Sequence[str], features: Features) -> tuple[Scored | Unanswered, ...]:
        """As `VerificationClient.score`."""
        return await run_async(self._session.score(subjects, features), self._transport.send)

    async def close(self) -> None:
        """End the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        """Closed at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """End the connections."""
        await self.close()


def _mode(mode: VerificationMode | str | None) -> VerificationMode | None:
    return VerificationMode(mode) if isinstance(mode, str) else mode


def _questions(asked: Iterable[Asked]) -> tuple[Question, ...]:
    return tuple(one if isinstance(one, Question) else Question(one) for one in asked)
