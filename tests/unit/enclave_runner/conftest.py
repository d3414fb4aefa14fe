"""One running enclave for all unit tests of this package, with `people` imported, and a generous lifetime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.enclave_home import PEOPLE, PEOPLE_CSV, Site, make_bureau, running_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running enclave that holds `people`."""
    bureau = make_bureau(tmp_path_factory.mktemp("enclave"), resident='"1000.0"')
    with running_site(bureau) as running:
        running.import_csv(PEOPLE, PEOPLE_CSV)
        yield running
