"""Refusals and faults in words, Chinese and English, from the rules that ship with the client."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from enclave_runner.contract.errors import Failed, Refused, YuneiError
from enclave_runner.contract.rulebook import PolicyPack
from sandbox.client.problems import Declined

HERE = Path(__file__).parent
# In the client's own distribution; in a checkout; in the platform's distribution.
FOLDERS = (HERE / "_rules", HERE.parents[1] / "policies", HERE.parent / "_pack")

ADVICE = {
    "client.unreachable": (
        "平台没有应答；同一调用可安全重试，不会重复计费。",
        "The platform did not answer. Trying again is safe.",
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
    "file.unwritable": ("文件无法写入；未写入任何内容。", "A file cannot be written; nothing was."),
    "key.sm2": (
        "SM2 需要附加组件：pip install 'yunei-client[gm]'。",
        "SM2 needs an extra: pip install 'yunei-client[gm]'.",
    ),
}


def words(error: YuneiError) -> tuple[str, str]:
    """Why, and what would help, in Chinese and in English."""
    if isinstance(error, Failed):
        chinese, english = ADVICE.get(error.code, ("发生故障。", "Something broke."))
        return f"{chinese}（{error.code}，{error.fault}）", f"{english} ({error.code}, {error.fault})"
    if isinstance(error, Refused):
        return _refusal(error)
    return "发生错误。", "Something went wrong."


def _refusal(refused: Refused) -> tuple[str, str]:
    """Our own text where the rule is ours, else the platform's own words."""
    pack = _pack()
    if pack is not None and refused.rule in pack.rules:
        found = pack.explain(refused)
        return f"{found.reason_zh}{found.remedy_zh}（{found.rule}）", f"{found.reason} {found.remedy} ({found.rule})"
    if isinstance(refused, Declined) and refused.texts.reason is not None:
        texts = refused.texts
        chinese = f"{texts.reason_zh or texts.reason}{texts.remedy_zh or ''}（{refused.rule}）"
        return chinese, f"{texts.reason} {texts.remedy or ''} ({refused.rule})"
    return f"平台拒绝：{refused}。", f"Refused: {refused}."


@cache
def _pack() -> PolicyPack | None:
    for folder in FOLDERS:
        if (folder / "rules.toml").is_file():
            return PolicyPack(folder)
    return None
