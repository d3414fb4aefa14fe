"""`yunei-client verify`, `offer` and `receipt`: the same questions from a command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from enclave_runner.contract.call import Offer
from enclave_runner.contract.check import Check, CheckKind
from enclave_runner.contract.codec import encode
from enclave_runner.contract.scoring import ScoreCheck
from sandbox.client.answers import Verified
from sandbox.client.connection import (
    Lines,
    add_connection,
    add_keeping,
    add_pin,
    add_privacy,
    add_product,
    add_run,
    client_of,
    pinned,
)
from sandbox.client.evidence import VerifiedCall, verify_receipt
from sandbox.client.modes import HIDES
from sandbox.client.problems import printable
from sandbox.client.questions import edge_text
from sandbox.client.told import Told


def verify(given: argparse.Namespace) -> Told:
    """Ask one question."""
    lines = Lines(sys.stdin)
    client = client_of(given, lines)
    subject = lines.or_next(given.subject)
    claim = None if given.claim is None else lines.or_next(given.claim)
    at_least = None if given.at_least is None else lines.or_next(given.at_least)
    with client:
        answer = client.verify(subject, claim, at_least, given.mode)
    return Told(_document(answer), _told(answer), answer.receipt)


def offer(given: argparse.Namespace) -> Told:
    """Show the verified offer of a product."""
    with client_of(given, Lines(sys.stdin)) as client:
        found = client.offer()
    return Told(found, _offered(found))


def receipt(given: argparse.Namespace) -> Told:
    """Verify a receipt file offline."""
    calls = verify_receipt(given.file, pinned(given))
    document = [{"receipt": call.receipt, "opened": call.is_opened, "price_fen": call.price_fen} for call in calls]
    return Told({"ok": True, "calls": document}, [line for call in calls for line in _call_lines(call)])


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands and their options."""
    asking = commands.add_parser("verify", help="核验一个问题 / ask one question")
    add_run(asking, verify, add_product, add_connection, add_privacy, add_keeping)
    asking.add_argument(
        "subject", help="被核验对象的标识，- 表示从标准输入读取 / whom it is about; - reads standard input"
    )
    claimed = asking.add_mutually_exclusive_group()
    claimed.add_argument("--claim", help="待核验的值，- 表示标准输入 / the claimed value; - reads standard input")
    claimed.add_argument("--at-least", help="阈值：数值或日期 / a number or date that it should reach")
    offering = commands.add_parser("offer", help="查看并核验产品要约 / show a product's verified offer")
    add_run(offering, offer, add_product, add_connection)
    checking = commands.add_parser("receipt", help="离线核验回执 / verify a receipt file offline")
    add_run(checking, receipt, add_pin)
    checking.add_argument("file", type=Path, help="回执文件 / the file")


def _document(answer: Verified) -> dict[str, object]:
    return {
        "verdict": None if answer.verdict is None else answer.verdict.value,
        "level": answer.level,
        "mode": answer.mode.value,
        "k": answer.k,
        "price_fen": answer.price_fen,
        "source_at": answer.source_at,
        "calls": [call.receipt.call_id for call in answer.receipt.verified],
    }


LISTED = 4000
VERDICTS = {"yes": "是 / yes", "no": "否 / no", "cannot-say": "无法判断 / cannot say"}


def _told(answer: Verified) -> list[str]:
    said = f"等级 / level {answer.level}" if answer.verdict is None else VERDICTS[answer.verdict.value]
    chinese, english = HIDES[answer.mode]
    among = "" if answer.k is None else f" (k = {answer.k})"
    return [
        f"结果 / answer     {said}",
        f"模式 / mode       {answer.mode.value} {chinese} / {english}{among}",
        f"价格 / price      {answer.price_fen / 100:.2f} 元 / CNY",
        f"数据时间 / source {answer.source_at.isoformat()}",
        f"回执 / receipts   {', '.join(call.receipt.call_id for call in answer.receipt.verified)}",
    ]


def _offered(found: Offer) -> list[str]:
    check = found.check
    asks = f"{check.kind.value} {check.attribute}" if isinstance(check, Check) else "score"
    modes = [f"  {mode.value} {HIDES[mode][0]} / {HIDES[mode][1]}" for mode in check.modes]
    table = (
        [] if found.table is None else [f"k = {found.table.k}, 提示数据 / hint {found.table.hint_bytes / 1e6:.1f} MB"]
    )
    return [
        f"产品 / product    {found.product_id}",
        f"问题 / question   {printable(asks)} ({printable(check.dataset_id)})",
        f"价格 / price      {found.charge.unit_price_fen / 100:.2f} 元 / CNY",
        f"数据时间 / source {found.source_at.isoformat()}",
        f"有效期 / until    {found.expires_at.isoformat()}",
        f"需同意 / consent  {'是 / yes' if found.needs_consent else '否 / no'}",
        *_asked(found, check),
        "模式 / modes",
        *modes,
        *table,
    ]


def _asked(found: Offer, check: Check | ScoreCheck) -> list[str]:
    """What the question is measured by: thresholds, bands, the values of a list, or the model's features."""
    if isinstance(check, ScoreCheck):
        return [f"特征 / features    {printable(', '.join(check.model.names), LISTED)}"]
    edges = [edge_text(edge, found.column_type, found.scale) for edge in check.edges]
    if check.kind is CheckKind.LEVEL:
        spans = [f"0: < {edges[0]}", *(f"{band}: >= {edge}" for band, edge in enumerate(edges, 1))]
        return [f"等级 / bands      {', '.join(spans)}"]
    if check.kind is CheckKind.MEMBER:
        return [f"所列值 / members  {printable(', '.join(check.members), LISTED)}"]
    return [f"阈值 / edges      {', '.join(edges)}"] if edges else []


def _call_lines(call: VerifiedCall) -> list[str]:
    found = call.receipt
    opened = "问答与承诺相符 / question and answer fit" if call.is_opened else "未附问答 / without question and answer"
    return [
        f"签名有效 / signed  {found.finished_at.isoformat()}, no. {found.sequence}",
        f"  产品 / product   {printable(found.product_id)}, {found.mode.value}, {found.outcome.value}"
        + ("" if found.rule is None else f" ({printable(found.rule)})"),
        f"  价格 / price     {call.price_fen / 100:.2f} 元 / CNY ({printable(found.charge.legal_basis)})",
        f"  承诺 / opening   {opened}",
    ]


def encoded(document: object) -> str:
    """One JSON document."""
    return encode(document).decode()
