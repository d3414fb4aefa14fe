"""System calls that no job needs, each with arguments with which it succeeds where no filter is in the way.

Numbers are those of x86-64, the only processor with a reviewed filter.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal

from tests.support.hostile_attempts import SAY_OK, Argument, Attempt, Blocked, Run, Targets, call, structure

SCRATCH = b"/scratch/made"
PAGE = 4096
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
SHARED, PRIVATE, FIXED, ANONYMOUS, GROWS_DOWN = 1, 2, 0x10, 0x20, 0x100
AT_FDCWD, SELF = -100, 0
RETURN_42 = b"\xb8\x2a\x00\x00\x00\xc3"  # mov eax, 42; ret
GETPID_32 = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20; int 0x80; ret
# A whole program of 64-bit machine code: write(3, the frame of "ok", 10); exit(0).
SHELLCODE = (
    b"\xb8\x01\x00\x00\x00\xbf\x03\x00\x00\x00\x48\x8d\x35\x10\x00\x00\x00\xba\x0a\x00\x00\x00\x0f\x05"
    b"\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05\x00\x00\x00\x00\x00\x00\x00\x02ok"
)


def elf() -> bytes:
    """The smallest program: one segment, no library."""
    base, headers = 0x400000, 64 + 56
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += b"".join(
        value.to_bytes(width, "little")
        for value, width in (
            (2, 2), (62, 2), (1, 4), (base + headers, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2), (0, 2),
            (0, 2), (0, 2),
        )
    )  # fmt: skip
    size = headers + len(SHELLCODE)
    segment = b"".join(
        value.to_bytes(width, "little")
        for value, width in ((1, 4), (5, 4), (0, 8), (base, 8), (base, 8), (size, 8), (size, 8), (PAGE, 8))
    )
    return head + segment + SHELLCODE


def foreign_page() -> int:
    """Made by the zygote before the jail: a worker that could get such a page would have native code already."""
    page = mmap.mmap(-1, PAGE, prot=PROT_READ | PROT_WRITE | PROT_EXEC)
    page.write(GETPID_32)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    PAGES.append(page)
    return address


PAGES: list[mmap.mmap] = []


def simple(number: int, *arguments: Argument) -> Run:
    """Nothing but the call."""
    return lambda targets: call(number, *arguments)


def buffered(number: int, *arguments: Argument | str) -> Run:
    """The same with a fresh kilobyte for every "buffer"."""
    return lambda targets: call(
        number,
        *(ctypes.create_string_buffer(1024) if item == "buffer" else item for item in arguments),  # type: ignore[misc]
    )


def child(number: int, *arguments: Argument) -> Run:
    """A call that makes a process, which ends at once."""

    def run(targets: Targets) -> None:
        if call(number, *arguments) == 0:
            os._exit(0)

    return run


def made(number: int, *arguments: Argument) -> Run:
    """A call on a file of the worker's own in its scratch, named as the first argument."""

    def run(targets: Targets) -> None:
        os.close(os.open(SCRATCH, os.O_CREAT | os.O_WRONLY, 0o600))
        call(number, SCRATCH, *arguments)

    return run


def on_file(number: int, *arguments: Argument) -> Run:
    """The same with a descriptor of it."""

    def run(targets: Targets) -> None:
        descriptor = os.open(SCRATCH, os.O_CREAT | os.O_RDONLY, 0o600)
        call(number, descriptor, *arguments)

    return run


def new_code(targets: Targets) -> None:
    """Write machine code, make it executable, call it."""
    address = call(9, 0, PAGE, PROT_READ | PROT_WRITE, PRIVATE | ANONYMOUS, -1, 0)
    ctypes.memmove(address, RETURN_42, len(RETURN_42))
    call(10, address, PAGE, PROT_READ | PROT_EXEC)
    if ctypes.CFUNCTYPE(ctypes.c_int)(address)() != 42:
        raise Blocked


def own_key(targets: Targets) -> None:
    """The same through a protection key of none."""
    address = call(9, 0, PAGE, PROT_READ | PROT_WRITE, PRIVATE | ANONYMOUS, -1, 0)
    call(329, address, PAGE, PROT_READ | PROT_EXEC, -1)


def mapped(protection: int, flags: int) -> Run:
    """One new mapping."""
    return lambda targets: call(9, 0, 1 << 20, protection, flags, -1, 0)


def executable_file(targets: Targets) -> None:
    """Map a file that was handed over as code."""
    call(9, 0, PAGE, PROT_READ | PROT_EXEC, PRIVATE, targets.descriptors[0], 0)


def run_handed_file(targets: Targets) -> None:
    """Execute a program without a name."""
    call(322, targets.descriptors[0], b"", None, None, 0x1000)


def run_shell(targets: Targets) -> None:
    """Become another program, which says for us that it went through."""
    arguments = (ctypes.c_char_p * 4)(b"/bin/sh", b"-c", SAY_OK.encode(), None)
    ctypes.CDLL(None, use_errno=True)
    call(59, b"/bin/sh", ctypes.cast(arguments, ctypes.c_void_p).value, None)


def limit_by_high_pointer(targets: Targets) -> None:
    """A new limit at an address whose low half is null: a filter that compares one half lets it pass."""
    address = call(9, 0x600000000000, PAGE, PROT_READ | PROT_WRITE, PRIVATE | ANONYMOUS | FIXED, -1, 0)
    ctypes.memmove(address, (64).to_bytes(8, "little") * 2, 16)
    call(302, 0, 7, address, None)


def own_memory(number: int) -> Run:
    """Read or write a process by its number: here the worker's own."""

    def run(targets: Targets) -> None:
        here, there = ctypes.create_string_buffer(b"x" * 8), ctypes.create_string_buffer(8)
        local, remote = (structure(16, base=(0, 8, ctypes.addressof(item)), size=(8, 8, 8)) for item in (here, there))
        call(number, os.getpid(), local, 1, remote, 1, 0)

    return run


def into_pipe(targets: Targets) -> None:
    """Pages of the worker into a pipe, without a copy."""
    _, write = os.pipe2(os.O_CLOEXEC)
    page = ctypes.create_string_buffer(b"x" * 8)
    call(278, write, structure(16, base=(0, 8, ctypes.addressof(page)), size=(8, 8, 8)), 1, 0)


def pipe_call(number: int, *arguments: Argument) -> Run:
    """A call on a pipe of the worker's own."""

    def run(targets: Targets) -> None:
        read, _ = os.pipe2(os.O_CLOEXEC)
        call(number, read, *arguments)

    return run


def message_queue(targets: Targets) -> None:
    """A queue that others of the uid could open by its name."""
    name = f"yunei-{os.getpid()}".encode()
    call(240, name, os.O_CREAT | os.O_RDWR, 0o600, None)
    call(241, name)


def namespace(targets: Targets) -> None:
    """Enter a namespace by its file."""
    call(308, os.open("/proc/self/ns/uts", os.O_RDONLY), 0)


def foreign_gate(targets: Targets) -> None:
    """A 32-bit system call: its numbers mean other calls."""
    ctypes.CFUNCTYPE(ctypes.c_int)(FOREIGN_PAGE)()


FOREIGN_PAGE = 0


def install_foreign_page() -> None:
    """To be called once by the zygote."""
    global FOREIGN_PAGE
    FOREIGN_PAGE = foreign_page()


COUNTER = structure(128, type=(0, 4, 1), size=(4, 4, 128), flags=(40, 8, 1 << 5 | 1 << 6))  # software clock, user only
CLONE3 = structure(64, signal=(32, 8, int(signal.SIGCHLD)))
FIRST_CPU = structure(128, cpus=(0, 8, 1))
BATCH, LOW_LIMIT = structure(4), structure(16, soft=(0, 8, 64), hard=(8, 8, 64))
SCHEDULE = structure(48, size=(0, 4, 48), policy=(4, 4, 3))
CAPS = structure(8, version=(0, 4, 0x20080522))
KILL_ACTION = structure(4, action=(0, 4, 0x80000000))
TABLE: dict[str, Run] = {
    "socket-tcp": simple(41, 2, 1, 0), "socket-udp": simple(41, 2, 2, 0), "socket-tcp6": simple(41, 10, 1, 0),
    "socket-unix": simple(41, 1, 1, 0), "socket-unix-datagram": simple(41, 1, 2, 0),
    "socket-pair": buffered(53, 1, 1, 0, "buffer"), "socket-route": simple(41, 16, 3, 0),
    "socket-generic-netlink": simple(41, 16, 3, 16), "socket-audit": simple(41, 16, 3, 9),
    "socket-vsock": simple(41, 40, 1, 0), "socket-crypto": simple(41, 38, 5, 0),
    "fork": child(57), "clone-process": child(56, int(signal.SIGCHLD), 0, 0, 0, 0),
    "exec-handed-file": run_handed_file, "memfd": simple(319, b"x", 0), "memfd-secret": simple(447, 0),
    "userfaultfd": simple(323, 1), "perf": simple(298, COUNTER, 0, -1, -1, 0),
    "inotify": simple(294, 0), "fanotify": simple(300, 0x200, 0), "signalfd": buffered(289, -1, "buffer", 8, 0),
    "timerfd": simple(283, 1, 0), "timer": buffered(222, 1, None, "buffer"),
    "eventfd": simple(290, 0, 0), "epoll": simple(291, 0),
    "pidfd": lambda targets: call(434, os.getpid(), 0), "kill-self": lambda targets: call(62, os.getpid(), 0),
    "tkill-self": lambda targets: call(200, os.getpid(), 0), "traceme": simple(101, 0, 0, 0, 0),
    "read-memory": own_memory(310), "write-memory": own_memory(311),
    "keyctl": simple(250, 0, -3, 1), "add-key": simple(248, b"user", b"x", b"y", 1, -2),
    "sysv-memory": simple(29, 0, PAGE, 0o600), "sysv-semaphore": simple(64, 0, 1, 0o600),
    "sysv-queue": simple(68, 0, 0o600), "personality": simple(135, 0xFFFFFFFF),
    "read-implies-exec": simple(135, 0x0400000), "modify-ldt": buffered(154, 0, "buffer", 1024),
    "robust-list": buffered(274, 0, "buffer", "buffer"), "memory-policy": simple(238, 0, None, 0),
    "set-priority": simple(141, 0, 0, 19), "io-priority": simple(251, 1, 0, 3 << 13),
    "set-affinity": simple(203, 0, 128, FIRST_CPU), "set-scheduler": simple(144, 0, 3, BATCH),
    "set-schedule": simple(314, 0, SCHEDULE, 0), "set-limit": simple(160, 7, LOW_LIMIT),
    "set-limit-of": simple(302, 0, 7, LOW_LIMIT, None), "limit-by-high-pointer": limit_by_high_pointer,
    "new-session": simple(112), "new-group": simple(109, 0, 0), "umask": simple(95, 0), "unshare": simple(272, 0x400),
    "file-handle": lambda targets: call(303, AT_FDCWD, b"/scratch", structure(136, size=(0, 4, 128)), structure(4), 0),
    "read-clock-discipline": buffered(159, "buffer"), "adjust-clock": buffered(305, 0, "buffer"),
    "new-landlock": simple(444, None, 0, 1), "ask-seccomp": simple(317, 2, 0, KILL_ACTION),
    "be-dumpable": simple(157, 4, 1, 0, 0, 0), "drop-death-signal": simple(157, 1, 0, 0, 0, 0),
    "adopt-orphans": simple(157, 36, 1, 0, 0, 0), "timer-slack": simple(157, 29, 1, 0, 0, 0),
    "no-huge-pages": simple(157, 41, 1, 0, 0, 0), "ask-no-new-privileges": simple(157, 39, 0, 0, 0, 0),
    "hard-link": made(86, b"/scratch/linked"), "chmod": made(90, 0o777), "chown": made(92, -1, -1),
    "truncate-by-name": made(76, 0), "fchmod": on_file(91, 0o777), "fchown": on_file(93, -1, -1),
    "lock-file": on_file(73, 1), "file-lease": on_file(72, 1024, 0), "signal-owner": pipe_call(72, 8, 0),
    "io-signal": pipe_call(72, 10, 0), "pipe-size": pipe_call(72, 1031, 1 << 16),
    "nonblocking-ioctl": pipe_call(16, 0x5421, bytes(4)), "async-ioctl": pipe_call(16, 0x5452, bytes(4)),
    "pages-into-pipe": into_pipe, "sync": simple(162), "file-system-of": buffered(137, b"/scratch", "buffer"),
    "aio": buffered(206, 1, "buffer"), "new-code": new_code, "new-code-by-key": own_key,
    "map-writable-code": mapped(7, PRIVATE | ANONYMOUS), "map-code": mapped(5, PRIVATE | ANONYMOUS),
    "map-handed-file-as-code": executable_file, "map-shared": mapped(3, SHARED | ANONYMOUS),
    "map-growing": mapped(3, PRIVATE | ANONYMOUS | GROWS_DOWN), "ask-capabilities": buffered(125, CAPS, "buffer"),
    "set-capabilities": buffered(126, CAPS, "buffer"), "set-same-uid": simple(105, 1000),
    "set-same-gid": simple(106, 1000),
    "alarm": simple(37, 0), "interval-timer": buffered(38, 0, structure(32), "buffer"),
    "group-of": simple(121, 0), "session-of": simple(124, 0), "priority-of": simple(140, 0, 0),
    "change-folder": simple(80, b"/scratch"),
}  # fmt: skip
AS_CAPTIVE_ROOT: dict[str, Run] = {
    "socket-packet": simple(41, 17, 3, 0), "socket-raw": simple(41, 2, 3, 1), "enter-namespace": namespace,
    "mount": simple(165, b"none", b"/tmp", b"tmpfs", 0, None), "mount-context": simple(430, b"tmpfs", 0),
    "mount-tree": simple(428, AT_FDCWD, b"/tmp", 1), "chroot": simple(161, b"/"), "host-name": simple(170, b"x", 1),
    "domain-name": simple(171, b"x", 1), "unshare-network": simple(272, 0x40000000),
    "unshare-mounts": simple(272, 0x20000), "unshare-ipc": simple(272, 0x8000000),
    "unshare-names": simple(272, 0x4000000), "unshare-pids": simple(272, 0x20000000),
    "mount-attributes": simple(165, None, b"/", None, 1 << 18 | 1 << 14, None),
}  # fmt: skip
FROM_OUTSIDE: dict[str, Run] = {
    "exec-shell": run_shell, "unshare-user": simple(272, 0x10000000), "lock-pages": simple(151, 2),
    "message-queue": message_queue, "io-uring": buffered(425, 1, "buffer"),
    "user-namespace-by-clone": child(56, 0x10000000 | int(signal.SIGCHLD), 0, 0, 0, 0),
}  # fmt: skip
CALLS = (
    *(Attempt(name, "KERNEL", run, ("EPERM",), "no-filter") for name, run in TABLE.items()),
    *(Attempt(name, "KERNEL", run, ("EPERM",), "captive-root") for name, run in AS_CAPTIVE_ROOT.items()),
    *(Attempt(name, "KERNEL", run, ("EPERM",), "outside") for name, run in FROM_OUTSIDE.items()),
    Attempt("clone3", "KERNEL", child(435, CLONE3, 64), ("ENOSYS",), "no-filter"),
    Attempt("gate-int80", "KERNEL", foreign_gate, ("job.limit",), "no-filter"),
    Attempt("gate-x32", "KERNEL", simple(0x40000000 + 39), ("job.limit",), "no-filter"),
)
