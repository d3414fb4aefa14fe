"""Control groups: found by what the kernel says, real limits on real workers, and no group that outlives its worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.jail import cgroup
from enclave_runner.jail.cgroup import NOT_DELEGATED, Group, Layout
from enclave_runner.jail.profile import JailProfile
from tests.support.grouped_zygote import GroupedZygote

# A worker of this profile may hold 64 + 32 + 32 MiB and the kernel's part in all.
SMALL = JailProfile(memory_mb=64, scratch_mb=32, file_mb=32, wall_seconds=30)
HOARD, FILES = 30, 7
PATIENCE = 20.0
V1_OWN = "9:name=systemd:/\n8:pids:/a\n4:memory:/a/b\n0::/a\n"
V2_OWN = "0::/unit/supervisor\n"


@pytest.fixture
def delegated() -> Layout:
    """Where this very host delegates groups to us."""
    layout = cgroup.delegated()
    if not layout.folders:
        pytest.skip("no control groups are delegated to this user: nothing to try")
    return layout


def mount(point: Path, kind: str, options: str, root: str = "/") -> str:
    """A line of /proc/self/mountinfo."""
    return f"35 31 0:32 {root} {point} rw,relatime shared:9 - {kind} {kind} {options}\n"


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; it must come."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def groups_of(zygote: GroupedZygote, layout: Layout) -> list[Path]:
    """The groups that a zygote made and that are still there."""
    return [path for folder in layout.folders for path in folder.glob(f"{cgroup.PREFIX}-{zygote.pid}-*")]


@contextmanager
def files(count: int) -> Iterator[list[int]]:
    """Empty files in memory."""
    made = [os.memfd_create("hoard") for _ in range(count)]
    try:
        yield made
    finally:
        for file in made:
            os.close(file)


# What a host delegates, by its texts.


def test_v1_is_a_memory_and_a_pids_hierarchy_each_with_a_path_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "memory/a/b").mkdir(parents=True)
    (tmp_path / "pids/a").mkdir(parents=True)
    memory, pids = mount(tmp_path / "memory", "cgroup", "rw,memory"), mount(tmp_path / "pids", "cgroup", "rw,pids")
    found = cgroup.find_v1(V1_OWN, memory + pids)
    assert found == Layout("v1", (tmp_path / "memory/a/b", tmp_path / "pids/a"))
    assert cgroup.find_v1(V1_OWN, memory) == NOT_DELEGATED
    assert cgroup.find_v1(V1_OWN, memory + pids.replace(" cgroup ", " tmpfs ")) == NOT_DELEGATED
    assert cgroup.find_v1(V2_OWN, memory + pids) == NOT_DELEGATED


def test_v1_controllers_that_share_a_hierarchy_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert cgroup.find_v1("3:memory,pids:/a\n", mount(tmp_path, "cgroup", "rw,memory,pids")) == NOT_DELEGATED


def test_a_mount_that_begins_below_the_hierarchys_top_is_read_from_there(tmp_path: Path) -> None:
    for controller in ("memory", "pids"):
        (tmp_path / controller / "job").mkdir(parents=True)
    own = "2:memory:/pod/job\n1:pids:/pod/job\n"
    seen = "".join(mount(tmp_path / name, "cgroup", f"rw,{name}", root="/pod") for name in ("memory", "pids"))
    assert cgroup.find_v1(own, seen) == Layout("v1", (tmp_path / "memory/job", tmp_path / "pids/job"))
    assert cgroup.find_v1(own.replace("/pod/", "/other/"), seen) == NOT_DELEGATED
    assert cgroup.find_v1(own.replace("/pod/job", "/pod/../job"), seen) == NOT_DELEGATED


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A version 2 group with a leaf, as systemd makes them with Delegate= and DelegateSubgroup=."""
    (tmp_path / "unit/supervisor").mkdir(parents=True)
    (tmp_path / "unit/cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "unit/cgroup.subtree_control").write_text("")
    return tmp_path / "unit"


def test_v2_is_the_group_above_a_supervisor_leaf(unit: Path) -> None:
    seen = mount(unit.parent, "cgroup2", "rw,nsdelegate")
    assert cgroup.find_v2(V2_OWN, seen) == Layout("v2", (unit,))
    assert cgroup.find_v2("0::/unit\n", seen) == NOT_DELEGATED  # its own group has processes: us
    assert cgroup.find_v2(V1_OWN, seen) == NOT_DELEGATED
    (unit / "cgroup.controllers").write_text("cpu memory\n")
    assert cgroup.find_v2(V2_OWN, seen) == NOT_DELEGATED
    (unit / "cgroup.controllers").unlink()
    assert cgroup.find_v2(V2_OWN, seen) == NOT_DELEGATED


def test_v2_controllers_are_passed_on_once(unit: Path) -> None:
    switch = unit / "cgroup.subtree_control"
    assert cgroup.give_controllers(unit)
    assert switch.read_text() == "+memory +pids"
    switch.write_text("memory pids\n")
    assert cgroup.give_controllers(unit)
    assert switch.read_text() == "memory pids\n"
    switch.unlink()
    assert not cgroup.give_controllers(unit / "supervisor")


def test_limits_are_the_profiles_and_leave_no_swap(tmp_path: Path) -> None:
    whole = (64 + 32 + 32 + cgroup.KERNEL_MB) << 20
    assert cgroup.memory_bytes(SMALL) == whole
    second = Group(Layout("v2", (tmp_path,)), "g").limits(SMALL)
    assert {file: value for _, file, value, _ in second} == {
        "memory.max": whole,
        "memory.swap.max": 0,
        "pids.max": SMALL.processes + 2,
    }
    first = Group(Layout("v1", (tmp_path / "m", tmp_path / "p")), "g").limits(SMALL)
    assert [(place.parent.name, file, value) for place, file, value, _ in first] == [
        ("m", "memory.limit_in_bytes", whole),
        ("m", "memory.memsw.limit_in_bytes", whole),
        ("p", "pids.max", SMALL.processes + 2),
    ]
    assert Group(NOT_DELEGATED, "g").make(SMALL) == []


def test_a_place_without_limits_is_not_delegated_and_is_left_clean(unit: Path, tmp_path: Path) -> None:
    assert not cgroup.is_usable(Layout("v2", (unit,)))
    assert not cgroup.is_usable(Layout("v1", (tmp_path / "nowhere", tmp_path / "neither")))
    assert not list(tmp_path.rglob(f"{cgroup.PREFIX}*/cgroup.procs"))


def test_describe_names_what_was_found(delegated: Layout) -> None:
    assert cgroup.describe() == delegated.kind
    assert delegated.kind in ("v1", "v2")
    assert not [path for folder in delegated.folders for path in folder.glob("*-trial")]


# Real workers in real groups.


def test_memory_that_is_no_ones_data_and_is_mapped_nowhere_ends_the_job(delegated: Layout) -> None:
    with GroupedZygote() as zygote, files(FILES) as handed:
        with pytest.raises(Failed) as caught:
            zygote.run(b"hoard %d" % HOARD, handed, SMALL)
        assert caught.value.code == "job.limit"
        assert sum(os.fstat(file).st_size for file in handed) < cgroup.memory_bytes(SMALL)
    with GroupedZygote() as zygote, files(1) as handed:  # the control: what a worker may hold, it may
        assert zygote.run(b"hoard %d" % HOARD, handed, SMALL).startswith(b"hoard")


def test_without_a_group_that_memory_is_seen_by_nothing() -> None:
    """The positive control, and why there are groups: the limits of the process and the watch let all of it pass."""
    with GroupedZygote(is_grouped=False) as zygote, files(FILES) as handed:
        assert zygote.run(b"hoard %d" % HOARD, handed, SMALL).startswith(b"hoard")
        assert sum(os.fstat(file).st_size for file in handed) == FILES * HOARD << 20


def test_processes_are_counted_by_the_group(delegated: Layout) -> None:
    group = Group(delegated, f"{cgroup.PREFIX}-{os.getpid()}-{cgroup.started_at(os.getpid())}-test")
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        made = 0
        with suppress(OSError):
            cgroup.enter(group.make(JailProfile(processes=5)), os.getpid())
            while made < 50:
                if os.fork() == 0:
                    signal.pause()
                made += 1
        os.write(tell, bytes([made]))
        os._exit(0)
    os.close(tell)
    try:
        made = os.read(told, 1)
    finally:
        os.close(told)
        for process in _members(group):
            os.kill(process, signal.SIGKILL)
        os.waitpid(child, 0)
        until(group.remove)
    assert made == bytes([5 + cgroup.SPARE_PROCESSES - 1])


def _members(group: Group) -> set[int]:
    places = {place for place, *_ in group.limits(SMALL)}
    return {int(line) for place in places for line in (place / "cgroup.procs").read_text().split()}


def test_jobs_leave_no_group_behind(delegated: Layout) -> None:
    with GroupedZygote() as zygote:
        for number in range(50):
            assert zygote.run(b"%d" % number, [], SMALL) == b"%d" % number
        with pytest.raises(Failed):
            zygote.run(b"wait", [], SMALL, wall_seconds=0.3)  # one that is killed
        until(lambda: not groups_of(zygote, delegated))
        zygote.keep_ready(SMALL, 2)
        until(lambda: len(groups_of(zygote, delegated)) == 2 * len(delegated.folders))
    assert not groups_of(zygote, delegated)


def test_groups_of_a_killed_zygote_are_swept_by_the_next(delegated: Layout) -> None:
    with GroupedZygote() as zygote:
        job = threading.Thread(target=lambda: _expect_end(zygote))
        job.start()
        until(lambda: bool(groups_of(zygote, delegated)))
        os.kill(zygote.pid, signal.SIGKILL)
        job.join()
        until(lambda: not zygote.is_alive)
        assert groups_of(zygote, delegated)
        with GroupedZygote() as following:
            assert following.run(b"x", [], SMALL) == b"x"
            assert not groups_of(zygote, delegated)


def _expect_end(zygote: GroupedZygote) -> None:
    with suppress(Failed):
        zygote.run(b"wait", [], SMALL)


def test_a_sweep_spares_the_groups_of_who_lives(delegated: Layout) -> None:
    mine = cgroup.WorkerGroups(delegated).fresh()
    for door in mine.make(SMALL):
        os.close(door)
    places = [place for place, *_ in mine.limits(SMALL)]
    cgroup.sweep()
    assert all(place.is_dir() for place in places)
    assert mine.remove()
    cgroup.sweep()
    assert not any(place.exists() for place in places)
