"""Confinement as a value: printed, hashed into every receipt, applied by `confine`. There is no profile without a
layer."""

from __future__ import annotations

from enclave_runner.contract.codec import Value, digest, encode
from enclave_runner.jail.seccomp import program_digest

JOB_UID = 64901  # a uid of no account; taken only when the enclave was started as root
INNER_UID = 1000


class JailProfile(Value, frozen=True):
    """What a worker may use. Sizes in MiB, times in seconds."""

    namespaces: tuple[str, ...] = ("user", "pid", "net", "mount", "ipc", "uts", "cgroup")
    root: str = "empty tmpfs, read-only; /proc of its own processes; /dev/null, /dev/urandom; /scratch noexec"
    # ABI 1 closes every path. What later ABIs add (TCP, signals, abstract sockets) the namespaces and the filter close
    # as well; the best ABI that the kernel has is used.
    landlock_floor: int = 1
    calls_sha256: str = program_digest()
    memory_mb: int = 3072
    address_space_mb: int = 16384
    cpu_seconds: int = 120
    file_mb: int = 64
    descriptors: int = 192
    processes: int = 64
    scratch_mb: int = 64
    wall_seconds: int = 120

    @property
    def sha256(self) -> str:
        """The digest that stands in receipts."""
        return digest(encode(self))
