from __future__ import annotations

import pytest

from enclave_runner.contract.script import MAX_SCRIPT_BYTES
from sandbox.rules.script import decide_script


@pytest.mark.parametrize(
    "content",
    [
        b"def main(data):\n\treturn 1\n",
        "# 中文注释\ndef main(data):\r\n    return 1\r\n".encode(),
        b"# -*- coding: utf-8 -*-\nx = 1\n",
        b"x" * MAX_SCRIPT_BYTES,
    ],
)
def test_texts_that_people_can_read_pass(content: bytes) -> None:
    assert decide_script(content).allowed


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "script.too-large"),
        (b"x" * (MAX_SCRIPT_BYTES + 1), "script.too-large"),
        (b"\xff\xfe", "script.text"),
        (b"\xed\xa0\x80", "script.text"),
        (b"#!/usr/bin/python\n# coding: utf-7\n+AGE-\n", "script.text"),
        (b"# vim: set fileencoding=latin-1 :\n", "script.text"),
        ("x = 1 # \u202e return".encode(), "script.hidden-character"),
        ("x\u200b = 1".encode(), "script.hidden-character"),
        ("x = 1\u2028y = 2".encode(), "script.hidden-character"),
        (b"x = 1\ry = 2\n", "script.hidden-character"),
        (b"x = '\x1b[2K'", "script.hidden-character"),
        (b"\xef\xbb\xbfx = 1", "script.hidden-character"),
        (b"x = 1\x00", "script.hidden-character"),
    ],
)
def test_what_a_reviewer_would_not_see_is_refused(content: bytes, rule: str) -> None:
    assert decide_script(content).rule == rule


def test_the_line_is_named() -> None:
    assert decide_script("a\r\nb\nc\u202ed".encode()).facts == {"line": 3, "code": "U+202E"}
