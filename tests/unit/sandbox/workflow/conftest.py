from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bureau import Bureau, furnished_bureau


@pytest.fixture
def bureau(tmp_path: Path) -> Bureau:
    """A deployment in use."""
    return furnished_bureau(tmp_path)
