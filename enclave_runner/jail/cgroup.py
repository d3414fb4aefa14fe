"""A control group for each worker, where the host has delegated that to this process: memory and processes counted by
the kernel.

It comes beside the limits that every worker has, never in their place. RLIMIT_DATA does not see shared mappings, and
the watch in `zygote` looks every 50 ms; a group counts every page at the moment it is taken: heap, scratch, files in
memory, page tables. Where nothing is delegated there is no group and the watch is the answer: `describe` says which.

Delegated is, for version 1, a memory and a pids hierarchy in which this process may make children of its own group;
for version 2, a group whose only member is a leaf named `supervisor` with this process in it (a group with processes of
its own may not have children with controllers). Nobody is moved but workers.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from enclave_runner.jail.profile import JailProfile

LEAF = "supervisor"
PREFIX = "yunei-worker"
MIB = 1 << 20
# Page tables of the whole address space, kernel stacks, pipe buffers: what the kernel takes on a worker's account.
KERNEL_MB = 96
SPARE_PROCESSES = 2
CONTROLLERS = {"memory", "pids"}
REMOVAL_TRIES = 500  # one each time the zygote looks, every 20 ms; what remains is left to a sweep
PATIENCE, PAUSE = 0.5, 0.002


@dataclass(frozen=True)
class Layout:
    """Where groups are made: `v2` in one folder, `v1` in one of memory and one of pids, `watchdog` nowhere."""

    kind: str
    folders: tuple[Path, ...] = ()


NOT_DELEGATED = Layout("watchdog")


class Group:
    """The group of one worker: a folder of that name in every hierarchy of the layout."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._kind = layout.kind
        self._places = [folder / name for folder in layout.folders]
        self.tries = REMOVAL_TRIES

    def make(self, profile: JailProfile) -> list[int]:
        """Make it with its limits; return its doors: descriptors through which a process is put in."""
        for place in self._places:
            place.mkdir()
        for place, file, value, is_needed in self.limits(profile):
            if is_needed or (place / file).exists():
                (place / file).write_text(str(value))
        return [os.open(place / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for place in self._places]

    def limits(self, profile: JailProfile) -> list[tuple[Path, str, int, bool]]:
        """What is written where, and whether the group is nothing without it (swap need not be counted)."""
        memory = memory_bytes(profile)
        processes = profile.processes + SPARE_PROCESSES
        if self._kind == "v2":
            (only,) = self._places
            return [
                (only, "memory.max", memory, True),
                (only, "memory.swap.max", 0, False),
                (only, "pids.max", processes, True),
            ]
        if self._kind == "v1":
            place, counted = self._places
            return [
                (place, "memory.limit_in_bytes", memory, True),
                (place, "memory.memsw.limit_in_bytes", memory, False),  # memory and swap together: no swap
                (counted, "pids.max", processes, True),
            ]
        return []

    def remove(self) -> bool:
        """Remove it; whether it is gone. It is not while a process in it is still dying."""
        gone = True
        for place in self._places:
            try:
                place.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone


class WorkerGroups:
    """The groups of one zygote's workers: made for each, removed after each."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._owner = f"{PREFIX}-{os.getpid()}-{started_at(os.getpid())}"
        self._count = 0
        self._by_pidfd: dict[int, Group] = {}
        self._leaving: list[Group] = []

    def fresh(self) -> Group:
        """A group nobody has; not made yet."""
        self._count += 1
        return Group(self._layout, f"{self._owner}-{self._count}")

    def belongs_to(self, group: Group, pidfd: int) -> None:
        """From now on the group goes when that process has ended."""
        if self._layout.folders:
            self._by_pidfd[os.dup(pidfd)] = group

    @property
    def pidfds(self) -> list[int]:
        """Readable when a process has ended whose group is to be removed."""
        return list(self._by_pidfd)

    @property
    def is_late(self) -> bool:
        """Whether a group waits for its last process to be gone."""
        return bool(self._leaving)

    def remove_ended(self, pidfds: list[int]) -> None:
        """Remove the groups of these processes, and those that were late before."""
        for pidfd in pidfds:
            self._leaving.append(self._by_pidfd.pop(pidfd))
            os.close(pidfd)
        for group in self._leaving:
            group.tries -= 1
        self._leaving = [group for group in self._leaving if not group.remove() and group.tries]


def memory_bytes(profile: JailProfile) -> int:
    """What a worker may hold in all: its data, its scratch, one file in memory of the largest size, the kernel's part.

    Libraries that it shares with the zygote are on the zygote's account.
    """
    return (profile.memory_mb + profile.scratch_mb + profile.file_mb + KERNEL_MB) * MIB


def enter(doors: list[int], process: int) -> None:
    """Put a process in. Slow (the kernel waits for every processor), so a worker builds its jail meanwhile."""
    for door in doors:
        os.write(door, str(process).encode())


def delegated() -> Layout:
    """Where this process may make groups, tried for real; `NOT_DELEGATED` where it may not. Forks a child."""
    own, mounts = Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
    for find in (find_v2, find_v1):
        layout = find(own, mounts)
        if layout.folders and is_usable(layout):
            return layout
    return NOT_DELEGATED


def describe() -> str:
    """What bounds a worker's memory as a whole here: `v2`, `v1` or `watchdog`."""
    return delegated().kind


def find_v2(own: str, mounts: str) -> Layout:
    """The layout by the texts of /proc/self/cgroup and /proc/self/mountinfo, if this process is in a `supervisor` leaf
    below a group that has both controllers."""
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "")
    leaf = _folder(path, mounts, "cgroup2")
    if leaf is None or leaf.name != LEAF:
        return NOT_DELEGATED
    try:
        offered = set((leaf.parent / "cgroup.controllers").read_text().split())
    except OSError:
        return NOT_DELEGATED
    return Layout("v2", (leaf.parent,)) if offered >= CONTROLLERS else NOT_DELEGATED


def find_v1(own: str, mounts: str) -> Layout:
    """The layout by the same texts, if both controllers have hierarchies of their own."""
    folders = []
    for controller in sorted(CONTROLLERS):
        path = next((line.split(":", 2)[2] for line in own.splitlines() if _names(line, controller)), "")
        folder = _folder(path, mounts, "cgroup", controller)
        if folder is None:
            return NOT_DELEGATED
        folders.append(folder)
    return Layout("v1", tuple(folders)) if folders[0] != folders[1] else NOT_DELEGATED


def _names(line: str, controller: str) -> bool:
    return controller in line.split(":", 2)[1].split(",")


def _folder(path: str, mounts: str, wanted: str, option: str = "") -> Path | None:
    """Where a group's path is seen in a mount of that kind with that option, if it is."""
    if not path:
        return None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split(" ")[3:5]
        kind, _, options = after.split(" ", 2)
        if kind != wanted or (option and option not in options.split(",")) or not Path(path).is_relative_to(root):
            continue
        folder = Path(point) / Path(path).relative_to(root)
        if ".." not in folder.parts and folder.is_dir():
            return folder
    return None


def is_usable(layout: Layout) -> bool:
    """Whether a child can be put into a group with limits here: tried, and nothing left of it."""
    if layout.kind == "v2" and not give_controllers(layout.folders[0]):
        return False
    group = Group(layout, f"{PREFIX}-{os.getpid()}-{started_at(os.getpid())}-trial")
    try:
        child = os.fork()
        if child == 0:
            os._exit(_enter_alone(group))
        return os.waitpid(child, 0)[1] == 0
    finally:
        _remove_all([group])


def _enter_alone(group: Group) -> int:
    try:
        enter(group.make(JailProfile()), os.getpid())
    except OSError:
        return 1
    return 0


def give_controllers(folder: Path) -> bool:
    """Let children of a delegated group have the controllers. EBUSY where it has processes itself."""
    switch = folder / "cgroup.subtree_control"
    try:
        if not set(switch.read_text().split()) >= CONTROLLERS:
            switch.write_text(" ".join(f"+{name}" for name in sorted(CONTROLLERS)))
    except OSError:
        return False
    return True


def started_at(process: int) -> str:
    """When a process started, in the kernel's ticks: with its id, a name that is never used again. "" for none."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    return stat.rsplit(")", 1)[1].split()[19]


def sweep() -> None:
    """Remove the groups whose zygote is no more, here and in whatever this process may reach; waits for workers that
    are dying, not for long."""
    own, mounts = Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
    for layout in (find_v2(own, mounts), find_v1(own, mounts)):
        names = {path.name for folder in layout.folders for path in folder.glob(f"{PREFIX}-*-*-*")}
        _remove_all([Group(layout, name) for name in sorted(names) if _is_orphan(name)])


def _remove_all(groups: list[Group]) -> None:
    deadline = time.monotonic() + PATIENCE
    while groups := [group for group in groups if not group.remove()]:
        if time.monotonic() > deadline:
            return
        time.sleep(PAUSE)


def _is_orphan(name: str) -> bool:
    process, start, _ = name.removeprefix(f"{PREFIX}-").split("-", 2)
    return not process.isdecimal() or started_at(int(process)) != start
