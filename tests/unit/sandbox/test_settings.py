from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.settings import Home, default_home, pack_folder


def test_every_path_lies_in_the_folder_and_they_differ() -> None:
    home = Home(Path("/srv/yunei"))
    paths = [
        home.control_db,
        home.control_key,
        home.artefacts,
        home.policies,
        home.trust,
        home.enclave,
        home.officer_key,
    ]
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to(home.folder) for path in paths)


def test_what_the_bureau_owns_holds_neither_the_officers_key_nor_the_enclave() -> None:
    home = Home(Path("/srv/yunei"))
    assert not home.officer_key.is_relative_to(home.bureau)
    assert not home.enclave.is_relative_to(home.bureau)


def test_the_environment_names_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUNEI_HOME", "/srv/elsewhere")
    assert default_home() == Path("/srv/elsewhere")
    monkeypatch.setenv("YUNEI_HOME", "")
    assert default_home() == Path("var")
    monkeypatch.delenv("YUNEI_HOME")
    assert default_home() == Path("var")


def test_the_shipped_pack_is_complete() -> None:
    names = {path.name for path in pack_folder().iterdir()}
    assert {"access.cedar", "access.cedarschema", "rules.toml", "tariffs.toml", "reviews.toml", "limits.toml"} <= names
