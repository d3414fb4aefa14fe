from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.api_world import ApiWorld, api_world


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWorld]:
    """One served deployment for all tests of the API; each test makes what it changes."""
    with api_world(tmp_path_factory.mktemp("api") / "home") as served:
        yield served
