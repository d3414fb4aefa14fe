"""A bureau loses its enclave, or everything, and comes back: through the real command line, with real jobs."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import Budget
from sandbox.settings import Home
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.submit import submit
from tests.support.command_line import ROOT, Answer, call_main
from tests.support.deployment import FREE, OPERATOR, World, furnish, make_deployment, open_world

pytestmark = pytest.mark.slow  # each starts a real enclave many times
SOCKETS = shutil.ignore_patterns("*.sock")
QUESTIONS = itertools.count(1)


def count_job() -> QueryJob:
    """Never the same question: an equal one is answered again at no loss."""
    sql = f"SELECT district, COUNT(*) AS n FROM people WHERE income > {next(QUESTIONS)} GROUP BY district"
    return QueryJob(sql=sql, budget=Budget(epsilon="0.1"))


class Town:
    """A deployment, its backup key, and a folder for what is kept elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, Home(folder / "home")
        self.key, self.recipient = folder / "backup.key", folder / "backup.key.pub"
        assert self.ask("backup-key", "--to", str(self.key)).code == 0

    def ask(self, *arguments: str, home: Home | None = None) -> Answer:
        """One command, for a script."""
        return call_main("--json", "--home", str((home or self.home).folder), *arguments)

    def done(self, *arguments: str, home: Home | None = None) -> Any:
        """One command that must succeed."""
        answer = self.ask(*arguments, home=home)
        assert answer.code == 0, answer
        return answer.document

    def run(self, count: int, home: Home | None = None) -> None:
        """Jobs that are released."""
        with open_world(home or self.home) as world:
            run_jobs(world, count)

    def back_up(self, name: str = "backup") -> Path:
        """A backup of now."""
        file = self.folder / name
        self.done("backup", "--to", str(file), "--recipient", str(self.recipient))
        return file

    def restore(self, file: Path, *options: str, home: Home | None = None) -> Answer:
        """Restore it with the right key."""
        return self.ask("restore", str(file), "--key", str(self.key), *options, home=home)

    def spent(self, home: Home | None = None) -> int:
        """The odometer of residents."""
        shown: dict[str, Any] = self.done("budget", home=home)
        return sum(int(item["spent"]) + int(item["reserved"]) for item in readings(shown))

    def verified(self, home: Home | None = None) -> bool:
        """Whether both logs and all ledgers verify."""
        document: dict[str, Any] = self.ask("audit", "verify", home=home).document
        return bool(document["ok"])


def run_jobs(world: World, count: int) -> None:
    for _ in range(count):
        asked = submit(world.office, world.actor(OPERATOR), FREE, count_job())
        assert dispatch(world.office, asked.submission_id).receipt.outcome.value == "released"


def readings(document: Any) -> list[dict[str, Any]]:
    """Every odometer of residents in the answer, wherever it stands."""
    if isinstance(document, dict):
        if document.get("entity_set") == "resident" and "spent" in document:
            return [document]
        return [found for value in document.values() for found in readings(value)]
    return [found for value in document for found in readings(value)] if isinstance(document, list) else []


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Data, grants, two settled jobs. A deployment may be moved: nothing in it names its place."""
    home = make_deployment(tmp_path_factory.mktemp("template") / "home")
    with open_world(home) as world:
        furnish(world)
        run_jobs(world, 2)
    return home


@pytest.fixture
def town(template: Home, tmp_path: Path) -> Town:
    shutil.copytree(template.folder, tmp_path / "home", ignore=SOCKETS)
    return Town(tmp_path)


def test_the_enclave_is_lost_and_its_control_plane_shows_it_what_it_forgot(town: Town) -> None:
    file = town.back_up()
    town.run(2)
    spent = town.spent()
    shutil.rmtree(town.home.enclave)
    report = town.restore(file, "--only-enclave").document
    assert (report["replayed"], report["reopened"], report["is_lossy"]) == (2, 0, False)
    assert town.spent() == spent
    town.run(1)
    assert town.spent() > spent
    assert town.verified()


def test_everything_is_lost_but_a_copy_of_the_receipts(town: Town, tmp_path: Path) -> None:
    file = town.back_up()
    town.done("audit", "export", "--to", str(tmp_path / "receipts"))
    town.done("audit", "checkpoint", "--to", str(tmp_path / "note"))
    spent = town.spent()
    shutil.rmtree(town.home.folder)
    assert town.restore(file).rule == (3, "restore.unproven", "-")
    assert not town.home.folder.exists()
    new = Home(tmp_path / "new")
    assert town.restore(file, "--receipts", str(tmp_path / "receipts"), home=new).document["is_lossy"] is False
    assert town.spent(new) == spent
    town.run(1, new)
    assert town.verified(new)
    assert town.restore(file, "--checkpoint", str(tmp_path / "note")).code == 0
    assert town.spent() == spent


def test_everything_is_lost_and_nothing_can_be_shown(town: Town) -> None:
    file = town.back_up()
    town.run(1)
    shutil.rmtree(town.home.folder)
    assert town.restore(file, "--accept-loss-of-receipts").document["is_lossy"] is True
    (shown,) = readings(town.done("budget"))[:1]
    assert int(shown["spent"]) == int(shown["lifetime"])
    with open_world(town.home) as world:
        asked = submit(world.office, world.actor(OPERATOR), FREE, count_job())
        assert dispatch(world.office, asked.submission_id).receipt.rule == "odometer.spent"
    assert town.verified()


def test_an_older_home_that_was_copied_back_by_hand_gets_nothing_to_do(town: Town, tmp_path: Path) -> None:
    shutil.copytree(town.home.enclave, tmp_path / "old", ignore=SOCKETS)
    town.run(1)
    shutil.rmtree(town.home.enclave)
    shutil.copytree(tmp_path / "old", town.home.enclave)
    assert town.ask("budget").rule == (3, "enclave.rolled-back", "-")
    assert not town.verified()  # looking is not forbidden, and shows it
    file = town.back_up()
    shutil.rmtree(town.home.enclave)
    assert town.restore(file, "--only-enclave").code == 0
    town.run(1)
    assert town.verified()


def test_bad_backups_and_used_places_change_nothing(town: Town, tmp_path: Path) -> None:
    file, new = town.back_up(), Home(tmp_path / "new")
    loss = "--accept-loss-of-receipts"
    assert town.restore(file, loss).fault == (4, "home.exists")
    assert town.restore(file, loss, "--only-enclave").fault == (4, "home.exists")
    assert town.ask("backup", "--to", str(file), "--recipient", str(town.recipient)).fault == (4, "backup.exists")
    town.done("backup-key", "--to", str(tmp_path / "other"))
    wrong = town.ask("restore", str(file), "--key", str(tmp_path / "other"), loss, home=new)
    assert wrong.fault == (4, "backup.key")
    content = file.read_bytes()
    other = town.back_up("other-backup").read_bytes()
    end = content.index(b"yunei backup 1\n", 1)
    other_end = other.index(b"yunei backup 1\n", 1)
    for damaged, code in (
        (content[:-1], "backup.damaged"),
        (content[:end], "backup.damaged"),
        (content + b"x", "backup.damaged"),
        (flipped(content), "backup.damaged"),
        (content[:end] + other[other_end:], "backup.parts"),
        (content[end:], "backup.parts"),
    ):
        (tmp_path / "damaged").write_bytes(damaged)
        assert town.restore(tmp_path / "damaged", loss, home=new).fault == (4, code)
        assert not new.folder.exists()
    town.run(1)
    assert town.verified()


def test_killed_at_any_moment_a_backup_or_restore_leaves_a_whole_one_or_none(town: Town, tmp_path: Path) -> None:
    file, new = tmp_path / "file", Home(tmp_path / "new")
    for number in range(8):
        home, recipient = str(town.home.folder), str(town.recipient)
        kill_after(0.25 * number, "backup", "--home", home, "--to", str(file), "--recipient", recipient)
        if file.exists():
            file.rename(tmp_path / f"whole{number}")
    town.run(1)
    good = town.back_up()
    for whole in [*tmp_path.glob("whole*"), good]:
        assert town.restore(whole, "--accept-loss-of-receipts", home=new).code == 0
        shutil.rmtree(new.folder)
    restored = 0
    line = ("restore", "--home", str(new.folder), str(good), "--key", str(town.key), "--accept-loss-of-receipts")
    for seconds in (0.3, 0.7, 1.1, 1.5, 1.9, 2.3, 2.7, 3.1, 60):
        kill_after(seconds, *line)
        if new.folder.exists():
            assert town.verified(new)
            shutil.rmtree(new.folder)
            restored += 1
    assert restored >= 1


def flipped(content: bytes) -> bytes:
    """One bit in the middle is another one."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def kill_after(seconds: float, *arguments: str) -> None:
    """kill -9 of the command and of what it started, unless it has ended by then."""
    program = subprocess.Popen(
        [sys.executable, "-m", "sandbox.cli", "--json", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with suppress(subprocess.TimeoutExpired):
        program.wait(seconds)
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
