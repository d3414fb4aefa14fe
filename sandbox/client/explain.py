"""Refusals and faults in words, Chinese and English, from the rules that ship with the client."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from enclave_runner.contract.errors import Failed, Refused, YuneiError
from enclave_runner.contract.rulebook import PolicyPack
from sandbox.client.problems import Declined, Texts

HERE = Path(__file__).parent
# In the client's own distribution; in a checkout; in the platform's distribution.
FOLDERS = (HERE / "_rules", HERE.parents[1] / "policies", HERE.parent / "_pack")

ADVICE = {
    "client.unreachable": (
        "平台没有应答。再次提问是新的调用：若上次已被应答，两次都计费。",
        "The platform did not answer. Asked again it is a new call: if the lost one was answered, both are paid.",
    ),
    "client.platform": (
        "平台发生故障；请将故障编号告知数据局。",
        "The platform broke down; quote the fault id to the bureau.",
    ),
    "client.extra": (
        "该模式需要附加组件：pip install 'yunei-client[pir]' 或 'yunei-client[he]'；也可指定较弱的模式。",
        "This needs an extra: pip install 'yunei-client[pir]' or 'yunei-client[he]'. Or choose a weaker mode.",
    ),
    "file.unreadable": ("文件无法读取。", "A file cannot be read."),
    "file.encoding": (
        "文件不是 UTF-8 编码：请另存为 UTF-8（例如 iconv -f GBK -t UTF-8）。",
        "A file is not UTF-8: save it as UTF-8 (for instance iconv -f GBK -t UTF-8).",
    ),
    "file.unwritable": ("文件无法写入；未写入任何内容。", "A file cannot be written; nothing was."),
    "key.sm2": (
        "SM2 需要附加组件：pip install 'yunei-client[gm]'。",
        "SM2 needs an extra: pip install 'yunei-client[gm]'.",
    ),
}

# The rule's own remedy is for who signs; here somebody checks.
PIN = (
    "请核对所固定的域内公钥（--trusted）：它可能有误或已更换；若公钥无误，请勿采用该内容并告知数据局。",
    "Check the pinned key (--trusted): it may be wrong or replaced. If it is right, use nothing of this.",
)


def words(error: YuneiError) -> tuple[str, str]:
    """Why, and what would help, in Chinese and in English."""
    if isinstance(error, Failed):
        chinese, english = ADVICE.get(error.code, ("发生故障。", "Something broke."))
        return f"{chinese}（{error.code}，{error.fault}）", f"{english} ({error.code}, {error.fault})"
    if isinstance(error, Refused):
        texts = _texts(error)
        chinese = f"{texts.reason_zh or texts.reason}{texts.remedy_zh or ''}（{error.rule}）"
        return chinese, f"{texts.reason} {texts.remedy or ''} ({error.rule})"
    return "发生错误。", "Something went wrong."


def documented(error: YuneiError) -> dict[str, object]:
    """The same for scripts."""
    if isinstance(error, Refused):
        texts = _texts(error)
        told = {"reason": texts.reason, "reason_zh": texts.reason_zh or texts.reason}
        return {"refused": {"rule": error.rule, "facts": error.facts, **told}}
    if isinstance(error, Failed):
        return {"failed": {"code": error.code, "fault": error.fault}}
    return {"failed": {"code": "unknown", "fault": None}}


def _texts(refused: Refused) -> Texts:
    """The platform's own words where it sent any (it knows the facts that fill them), else those of the rules here."""
    if isinstance(refused, Declined) and refused.texts.reason is not None:
        return refused.texts
    pack = _pack()
    if pack is None or refused.rule not in pack.rules:
        return Texts(reason=f"Refused: {refused}.", reason_zh=f"平台拒绝：{refused}。")
    found = pack.explain(refused)
    chinese, english = found.remedy_zh, found.remedy
    if refused.rule == "signature.invalid" and not isinstance(refused, Declined):
        chinese, english = PIN
    return Texts(reason=found.reason, remedy=english, reason_zh=found.reason_zh, remedy_zh=chinese)


@cache
def _pack() -> PolicyPack | None:
    for folder in FOLDERS:
        if (folder / "rules.toml").is_file():
            return PolicyPack(folder)
    return None
