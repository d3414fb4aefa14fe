"""Which of the two languages an answer speaks."""

from __future__ import annotations

from enum import Enum


class Language(Enum):
    """Chinese is the house language; English on request."""

    ZH = "zh-CN"
    EN = "en"


def preferred(accept_language: str | None) -> Language:
    """The language that an Accept-Language header asks for most; Chinese when it asks for neither."""
    asked = {Language.ZH: 0.0, Language.EN: 0.0}
    for item in (accept_language or "")[:200].split(","):
        tag, _, parameter = item.strip().lower().partition(";")
        for language, prefix in ((Language.ZH, "zh"), (Language.EN, "en")):
            if tag.strip() == prefix or tag.startswith(f"{prefix}-"):
                asked[language] = max(asked[language], _quality(parameter))
    return Language.EN if asked[Language.EN] > asked[Language.ZH] else Language.ZH


def _quality(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    try:
        return min(max(float(value), 0.0), 1.0) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
