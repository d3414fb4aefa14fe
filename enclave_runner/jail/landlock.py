"""Which paths a worker may open: Landlock, a second opinion on the file system beside the empty root.

It handles every right that the running kernel knows and grants a handful. Files without a place in the file system
(sealed memory, pipes) are not its matter: a worker reaches what it was handed, and nothing else by any path.

Source: landlock(7); rights by ABI: 1 = Linux 5.13, 2 = REFER, 3 = TRUNCATE, 4 = TCP, 5 = IOCTL_DEV, 6 = scopes.
"""

from __future__ import annotations

import os
import stat
import struct

from enclave_runner.jail import syscalls

(
    EXECUTE,
    WRITE_FILE,
    READ_FILE,
    READ_DIR,
    REMOVE_DIR,
    REMOVE_FILE,
    MAKE_CHAR,
    MAKE_DIR,
    MAKE_REG,
    MAKE_SOCK,
    MAKE_FIFO,
    MAKE_BLOCK,
    MAKE_SYM,
    REFER,
    TRUNCATE,
    IOCTL_DEV,
) = (1 << bit for bit in range(16))
FIRST_RIGHTS = REFER - 1  # the thirteen of ABI 1
LATER_RIGHTS = {2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
TCP_RIGHTS, SCOPES = 3, 3  # bind and connect; abstract sockets and signals
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
SCRATCH_RIGHTS = READ_FILE | READ_DIR | WRITE_FILE | REMOVE_FILE | REMOVE_DIR | MAKE_DIR | MAKE_REG | TRUNCATE
GRANTED = {
    "/scratch": SCRATCH_RIGHTS,
    "/dev/null": READ_FILE | WRITE_FILE,
    "/dev/urandom": READ_FILE,
    "/proc/self/status": READ_FILE,  # for the read-back; it holds nothing that is not the worker's own
    "/proc/self/cgroup": READ_FILE,  # DuckDB gives up where this one exists and cannot be read; it says "/" here
}


def restrict_paths(floor: int) -> int:
    """Close the file system for this thread and all that it starts. Returns the kernel's ABI.

    Call it while there is one thread, after the mounts (rules hold objects of the new root) and after no_new_privs.

    Raises:
        OSError: no Landlock, or below the floor.
    """
    abi = syscalls.landlock_abi()
    if abi < floor:
        raise OSError(f"Landlock ABI {abi} is below {floor}")
    handled = FIRST_RIGHTS
    for since, right in LATER_RIGHTS.items():
        handled |= right if abi >= since else 0
    attributes = struct.pack("QQQ", handled, TCP_RIGHTS if abi >= 4 else 0, SCOPES if abi >= 6 else 0)
    ruleset = syscalls.landlock_ruleset(attributes[: 8 if abi < 4 else 16 if abi < 6 else 24])
    try:
        for path, rights in GRANTED.items():
            _grant(ruleset, path, rights & handled)
        syscalls.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)
    return abi


def _grant(ruleset: int, path: str, rights: int) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(target).st_mode):
            rights &= FILE_RIGHTS
        syscalls.landlock_allow(ruleset, struct.pack("=Qi", rights, target))
    finally:
        os.close(target)
