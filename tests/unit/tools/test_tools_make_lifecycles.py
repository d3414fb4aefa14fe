"""docs/reference/lifecycles.md shows every state machine of the domain as it stands in the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.domain.grant import GRANT_LIFECYCLE
from sandbox.domain.party import PARTY_LIFECYCLE
from sandbox.domain.product import PRODUCT_LIFECYCLE
from sandbox.domain.submission import SUBMISSION_LIFECYCLE
from tools.make_lifecycles import PAGE, ROOT, lifecycles, main, page_text


def test_the_page_is_current() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page_text(), "run `make docs`"


def test_every_state_machine_is_found_once() -> None:
    found = lifecycles()
    for known in (GRANT_LIFECYCLE, PARTY_LIFECYCLE, PRODUCT_LIFECYCLE, SUBMISSION_LIFECYCLE):
        assert sum(item is known for item in found) == 1
    assert [item.name for item in found] == sorted({item.name for item in found})


def test_every_arrow_is_drawn() -> None:
    page = page_text()
    arrows = [
        f"{current.value} --> {target.value}".replace("-review", "_review")
        for lifecycle in lifecycles()
        for current, targets in lifecycle.arrows.items()
        for target in targets
    ]
    assert [arrow for arrow in arrows if arrow not in page] == []
    assert page.count(" --> ") >= len(arrows) + len(lifecycles())


def test_a_stale_page_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], tmp_path) == 1
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    (tmp_path / PAGE).write_text("something else", encoding="utf-8")
    assert main(["--check"], tmp_path) == 1
    assert "make docs" in capsys.readouterr().err
