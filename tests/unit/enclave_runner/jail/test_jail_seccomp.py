"""The call filter, run by an interpreter over every number and every kind of argument, against what it is to say."""

from __future__ import annotations

import errno
import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.jail import seccomp
from enclave_runner.jail.profile import JailProfile
from tests.support.bpf import Call, verdict

PROGRAM = seccomp.program()
YES, NO, KILL, FALL_BACK, PRETENDED = (
    seccomp.ALLOW,
    seccomp.ERRNO | errno.EPERM,
    seccomp.KILL,
    seccomp.ERRNO | errno.ENOSYS,
    seccomp.ERRNO,
)
GUARDED = {
    seccomp.MMAP,
    seccomp.MPROTECT,
    seccomp.IOCTL,
    seccomp.CLONE,
    seccomp.FCNTL,
    seccomp.PRCTL,
    seccomp.TGKILL,
    seccomp.PRLIMIT64,
    seccomp.CLONE3,
}
# F_GETLK, F_SETLK, F_SETLKW; PR_SET_NAME.
PRETENDED_CALLS = {(seccomp.FCNTL, 5), (seccomp.FCNTL, 6), (seccomp.FCNTL, 7), (seccomp.PRCTL, 15)}
# What takes a worker out of its jail, by number, so that a slip in the table shows.
DANGEROUS = {
    "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50, "socketpair": 53, "fork": 57,
    "vfork": 58, "execve": 59, "wait4": 61, "kill": 62, "shmget": 29, "semget": 64, "msgget": 68, "chmod": 90,
    "fchmod": 91, "chown": 92, "link": 86, "symlink": 88, "mknod": 133, "ptrace": 101, "setuid": 105, "setpgid": 109,
    "setsid": 112, "personality": 135, "pivot_root": 155, "adjtimex": 159, "setrlimit": 160, "chroot": 161,
    "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169, "init_module": 175, "quotactl": 179, "tkill": 200,
    "io_setup": 206, "mbind": 237, "mq_open": 240, "kexec_load": 246, "add_key": 248, "keyctl": 250,
    "inotify_init": 253, "openat2": 437, "unshare": 272, "splice": 275, "vmsplice": 278,
    "timerfd_create": 283, "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304,
    "setns": 308, "process_vm_readv": 310, "kcmp": 312,
    "finit_module": 313, "seccomp": 317, "memfd_create": 319, "bpf": 321, "execveat": 322, "userfaultfd": 323,
    "pkey_mprotect": 329, "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430,
    "pidfd_open": 434, "pidfd_getfd": 438, "mount_setattr": 442, "landlock_create_ruleset": 444, "memfd_secret": 447,
}  # fmt: skip


def test_every_number_has_the_verdict_that_the_list_says() -> None:
    plain = set(seccomp.PLAIN.values())
    for number in range(1024):
        if number not in GUARDED:
            assert verdict(PROGRAM, Call(number)) == (YES if number in plain else NO), number


@pytest.mark.parametrize("name", DANGEROUS)
def test_what_leads_out_is_refused_whatever_its_arguments(name: str) -> None:
    for argument in (0, 1, 1 << 31, (1 << 64) - 1):
        assert verdict(PROGRAM, Call(DANGEROUS[name], (argument,) * 6)) == NO


def test_guarded_and_plain_are_two_sets() -> None:
    assert not GUARDED & set(seccomp.PLAIN.values())
    assert len(set(seccomp.PLAIN.values())) == len(seccomp.PLAIN)


@given(number=st.integers(0, 1 << 31), architecture=st.integers(0, (1 << 32) - 1))
def test_a_call_by_another_gate_kills(number: int, architecture: int) -> None:
    if architecture != seccomp.X86_64:
        assert verdict(PROGRAM, Call(number, (), architecture)) == KILL
    assert verdict(PROGRAM, Call(number | seccomp.X32_BIT)) == KILL


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_memory_is_neither_executable_nor_uncounted(protection: int, flags: int) -> None:
    executable, uncounted = protection & 4, flags & 0x100 or flags & 0x21 == 0x21
    assert verdict(PROGRAM, Call(seccomp.MMAP, (0, 4096, protection, flags))) == (
        NO if executable or uncounted else YES
    )
    assert verdict(PROGRAM, Call(seccomp.MPROTECT, (0, 4096, protection))) == (NO if executable else YES)


@given(st.integers(0, (1 << 64) - 1))
def test_only_threads_of_this_process_are_made(flags: int) -> None:
    wanted = YES if flags & 0x10000 and not flags & 0x7E020000 else NO
    assert verdict(PROGRAM, Call(seccomp.CLONE, (flags,))) == wanted
    assert verdict(PROGRAM, Call(seccomp.CLONE3, (flags,))) == FALL_BACK


@given(st.integers(0, (1 << 64) - 1))
def test_a_limit_is_read_and_never_set(new_limit: int) -> None:
    assert verdict(PROGRAM, Call(seccomp.PRLIMIT64, (0, 2, new_limit, 0x1000))) == (YES if new_limit == 0 else NO)


@pytest.mark.parametrize("pointer", [1, 1 << 31, 1 << 32, 0x6000_0000_0000, 0x1_0000_0000])
def test_a_pointer_is_looked_at_in_both_halves(pointer: int) -> None:
    assert verdict(PROGRAM, Call(seccomp.PRLIMIT64, (0, 2, pointer, 0))) == NO


@given(st.integers(0, 1 << 16))
def test_calls_with_a_command_are_allowed_for_a_few_commands(command: int) -> None:
    for number, place, commands in (
        (seccomp.IOCTL, 1, seccomp.TERMINAL_CALLS),
        (seccomp.FCNTL, 1, seccomp.FILE_CALLS),
        (seccomp.PRCTL, 0, (16,)),
        (seccomp.TGKILL, 0, (1,)),
    ):
        arguments = [0, 0, 0]
        arguments[place] = command
        wanted = YES if command in commands else PRETENDED if (number, command) in PRETENDED_CALLS else NO
        assert verdict(PROGRAM, Call(number, tuple(arguments))) == wanted


def test_locks_and_thread_names_are_pretended() -> None:
    """Both can be read by whoever is on the host: they would carry rows past every other wall."""
    for number, command in PRETENDED_CALLS:
        arguments = (command,) if number == seccomp.PRCTL else (0, command, 0x1000)
        assert verdict(PROGRAM, Call(number, arguments)) == PRETENDED


@pytest.mark.parametrize("number", sorted(GUARDED - {seccomp.CLONE3}))
def test_the_commands_that_are_allowed_are_allowed(number: int) -> None:
    """A filter that refuses everything would pass the tests above."""
    arguments = {
        seccomp.IOCTL: (1, 0x5401),
        seccomp.FCNTL: (1, 3),
        seccomp.PRCTL: (16,),
        seccomp.TGKILL: (1,),
        seccomp.CLONE: (0x3D0F00,),
        seccomp.PRLIMIT64: (0, 7, 0, 0x1000),
        seccomp.MMAP: (0, 4096, 3, 0x22),
        seccomp.MPROTECT: (0, 4096, 3),
    }[number]
    assert verdict(PROGRAM, Call(number, arguments)) == YES


def test_the_profile_names_the_filter() -> None:
    assert JailProfile().calls_sha256 == seccomp.program_digest()
    assert len(seccomp.packed_program()) == 8 * len(PROGRAM)


def test_a_processor_without_a_reviewed_list_gets_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(OSError, match="aarch64"):
        seccomp.packed_program()
