"""Write an OCI bundle that runs one whole enclave in a container: no network, a read-only root, one writable folder.

The root is a skeleton; what the enclave needs of this host (`/usr`, the code, its environment) is bound into it
read-only at the place where it is, so there is no image to build or to trust. Run it with
`runc run --bundle FOLDER NAME`.

The container is a second wall around the jail, not a second jail: it must leave the jail what the jail is made of. So
it masks nothing in /proc (a masked /proc may not be mounted again, by a worker, in a namespace of its own), leaves
/proc/sys writable for the owner of the namespace (a worker forbids itself further namespaces there) and filters no
calls.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HOME_INSIDE = "/var/lib/yunei"
ENVIRONMENT = {"LANG": "C.UTF-8", "TZ": "UTC", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
MOST_PROCESSES = 2048
USR_MERGED = ("bin", "lib", "lib64", "sbin")


def configuration(home: Path, read_only: list[Path], command: list[str], user_namespace: int | None) -> dict[str, Any]:
    """The runtime's `config.json`: the home is the only writable bind; its owner is the only user, with no capability.

    Args:
        user_namespace: the first of 65,536 host ids for a user namespace of the container's own; None for the host's.
    """
    owner = home.stat()
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in NAMESPACES],
        "resources": {"pids": {"limit": MOST_PROCESSES}},
        "maskedPaths": [],
        "readonlyPaths": [],
    }
    if user_namespace is not None:
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = _mapping(user_namespace, owner.st_uid)
        linux["gidMappings"] = _mapping(user_namespace, owner.st_gid)
    return {
        "ociVersion": "1.0.2",
        "hostname": "enclave",
        "root": {"path": "rootfs", "readonly": True},
        "process": {
            "user": {"uid": owner.st_uid, "gid": owner.st_gid, "umask": 0o077},
            "args": command,
            "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {kind: [] for kind in CAPABILITY_SETS},
            "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
        },
        "mounts": _mounts(home, read_only),
        "linux": linux,
    }


def _mapping(first: int, own: int) -> list[dict[str, int]]:
    """Ids of the namespace on this host's: the home's owner keeps its own, so that the home stays its."""
    below = {"containerID": 0, "hostID": first, "size": own}
    above = {"containerID": own + 1, "hostID": first + own, "size": max(0, 65536 - own)}
    same = {"containerID": own, "hostID": own, "size": 1}
    return [part for part in (below, same, above) if part["size"]]


def _mounts(home: Path, read_only: list[Path]) -> list[dict[str, Any]]:
    closed = ["nosuid", "nodev", "noexec"]
    folders = [_mount("/proc", "proc", closed)]
    folders += [_mount("/tmp", "tmpfs", [*closed, "mode=1777", "size=64m"])]
    folders += [_mount("/dev", "tmpfs", ["nosuid", "noexec", "mode=755", "size=64k"])]
    folders += [_mount(str(path), "bind", ["rbind", "ro", "nosuid", "nodev"], str(path)) for path in read_only]
    return [*folders, _mount(HOME_INSIDE, "bind", ["rbind", "rw", *closed], str(home))]


def _mount(place: str, kind: str, options: list[str], source: str | None = None) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": source or kind, "options": options}


def write_bundle(folder: Path, config: dict[str, Any]) -> None:
    """The bundle's folder: config.json and the skeleton that the mounts go on."""
    root = folder / "rootfs"
    for mount in config["mounts"]:
        (root / mount["destination"].lstrip("/")).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)  # runtimes give a tmpfs the mode of what it covers
    for name in USR_MERGED:
        link = root / name
        if Path("/", name).is_symlink() and not link.is_symlink():
            link.symlink_to(Path("/", name).readlink())
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Write one bundle."""
    parser = argparse.ArgumentParser(prog="python tools/make_bundle.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the bundle")
    parser.add_argument("--home", type=Path, required=True, help="the enclave's home on this host; its owner runs it")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="with enclave_runner installed")
    parser.add_argument("--read-only", type=Path, action="append", default=[], help="a folder that Python needs")
    parser.add_argument("--user-namespace", type=int, metavar="FIRST_ID", help="map ids from here on")
    parser.add_argument("--doctor", action="store_true", help="examine the container instead of serving in it")
    options = parser.parse_args(arguments)
    command = ["doctor", "--json"] if options.doctor else ["serve", "--home", HOME_INSIDE]
    read_only = [Path("/usr"), *(path.resolve() for path in options.read_only)]
    line = [str(options.python), "-P", "-m", "enclave_runner", *command]
    write_bundle(options.folder, configuration(options.home.resolve(), read_only, line, options.user_namespace))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
