"""Which texts may be reviewed as a script: a reviewer must see every character that the interpreter sees."""

from __future__ import annotations

import re
import unicodedata

from enclave_runner.contract.script import MAX_SCRIPT_BYTES
from sandbox.domain.decision import ALLOWED, Decision, refuse

# Line ends and tabs. All else of these categories is invisible, or reorders what is shown ("Trojan Source",
# CVE-2021-42574): controls, format characters, private use, surrogates, unassigned, line and paragraph separators.
SEEN = frozenset("\n\t")
UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})
# PEP 263: with another encoding named here the interpreter would read another text than the reviewer.
ENCODING = re.compile(r"[ \t]*#.*?coding[:=][ \t]*([-\w.]+)")


def decide_script(content: bytes) -> Decision:
    """Whether these bytes are a text in UTF-8, of a permitted size, without a character that cannot be seen."""
    if not 0 < len(content) <= MAX_SCRIPT_BYTES:
        return refuse("script.too-large", max=MAX_SCRIPT_BYTES)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return refuse("script.text")
    lines = text.replace("\r\n", "\n").split("\n")
    named = next(filter(None, map(ENCODING.match, lines[:2])), None)
    if named is not None and named[1].lower().replace("_", "-") not in ("utf-8", "utf8"):
        return refuse("script.text")
    for number, line in enumerate(lines, start=1):
        for character in line:
            if character not in SEEN and unicodedata.category(character) in UNSEEN:
                return refuse("script.hidden-character", line=number, code=f"U+{ord(character):04X}")
    return ALLOWED
