"""`yunei-client batch` and `score`: many subjects from a CSV file."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

from enclave_runner.contract.errors import Failed
from sandbox.client.answers import Unanswered, Verified
from sandbox.client.connection import (
    Lines,
    add_connection,
    add_keeping,
    add_privacy,
    add_product,
    add_run,
    client_of,
    text_of,
)
from sandbox.client.explain import documented, words
from sandbox.client.questions import Question
from sandbox.client.scores import Scored
from sandbox.client.told import Told, told_rows

SUBJECT, CLAIM, AT_LEAST = "subject", "claim", "at_least"


def batch(given: argparse.Namespace) -> Told:
    """Ask about every line of a CSV file: columns `subject` and, where the product needs one, `claim` or `at_least`."""
    with client_of(given, Lines(sys.stdin)) as client:
        rows = _rows(given.file)
        if set(rows[0]) - {SUBJECT, CLAIM, AT_LEAST}:
            raise ValueError("the CSV has the columns subject and claim or at_least, and no other")
        questions = [Question(row[SUBJECT], row.get(CLAIM) or None, row.get(AT_LEAST) or None) for row in rows]
        outcomes = client.verify_many(questions, given.mode)
    return told_rows([_answered(one) for one in outcomes], [_answer_line(one) for one in outcomes], outcomes)


def score(given: argparse.Namespace) -> Told:
    """Score the subjects of a CSV file: a column `subject` and one for each feature of the model."""
    with client_of(given, Lines(sys.stdin)) as client:
        subjects, features = _columns(given.file)
        outcomes = client.score(subjects, features)
    return told_rows([_scored(one) for one in outcomes], [_score_line(one) for one in outcomes], outcomes)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Both commands and their options."""
    asking = commands.add_parser("batch", help="批量核验 / ask about every line of a CSV file")
    add_run(asking, batch, add_product, add_connection, add_privacy, add_keeping)
    asking.add_argument(
        "file", help="CSV：subject 与 claim 或 at_least 列，- 表示标准输入 / CSV file; - is standard input"
    )
    scoring = commands.add_parser("score", help="加密评分 / score under encryption (extra he)")
    add_run(scoring, score, add_product, add_connection, add_keeping)
    scoring.add_argument("file", help="CSV：subject 列与各特征列，- 表示标准输入 / CSV file; - reads standard input")


def _rows(source: str) -> list[dict[str, str]]:
    """The lines of a CSV file; ValueError where it is none, or has no column of subjects."""
    text = _input() if source == "-" else text_of(Path(source))
    try:
        rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    except csv.Error:
        rows = []
    if not rows or any(SUBJECT not in row or None in row or None in row.values() for row in rows):
        raise ValueError("the CSV has a column subject, and as many cells in every line as in the first")
    return rows


def _input() -> str:
    """The rest of standard input; Failed(`file.encoding`)."""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise Failed("file.encoding") from None


def _columns(source: str) -> tuple[list[str], dict[str, list[float]]]:
    """The subjects and the columns of numbers."""
    rows = _rows(source)
    names = [name for name in rows[0] if name != SUBJECT]
    return [row[SUBJECT] for row in rows], {name: [_number(row[name]) for row in rows] for name in names}


def _answered(outcome: Verified | Unanswered) -> dict[str, object]:
    if isinstance(outcome, Unanswered):
        return documented(outcome.error)
    return {
        "verdict": None if outcome.verdict is None else outcome.verdict.value,
        "level": outcome.level,
        "mode": outcome.mode.value,
        "k": outcome.k,
        "price_fen": outcome.price_fen,
        "calls": [call.receipt.call_id for call in outcome.receipt.verified],
    }


def _answer_line(outcome: Verified | Unanswered) -> str:
    if isinstance(outcome, Unanswered):
        return " / ".join(words(outcome.error))
    return str(outcome.level) if outcome.verdict is None else outcome.verdict.value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a cell of the CSV is no number") from None


def _scored(outcome: Scored | Unanswered) -> dict[str, object]:
    if isinstance(outcome, Unanswered):
        return documented(outcome.error)
    return {
        "score": outcome.score,
        "points": outcome.points,
        "known": outcome.known,
        "probability": outcome.probability,
        "price_fen": outcome.price_fen,
        "calls": [call.receipt.call_id for call in outcome.receipt.verified],
    }


def _score_line(outcome: Scored | Unanswered) -> str:
    if isinstance(outcome, Unanswered):
        return " / ".join(words(outcome.error))
    unknown = "" if outcome.known else "  （无记录 / not on record）"
    chance = "" if outcome.probability is None else f"  p = {outcome.probability:.4f}"
    return f"{outcome.score:g}{chance}{unknown}"
