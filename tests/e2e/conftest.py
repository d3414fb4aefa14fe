from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.desk import Desk, furnish, open_desk


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One deployment for all tests of bad input: none of them may change it for the others."""
    with open_desk(tmp_path_factory.mktemp("desk")) as made:
        furnish(made)
        yield made
