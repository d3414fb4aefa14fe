"""Digests over the distributions that the enclave imports, and over what the interpreter runs before the enclave."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import site
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution

from enclave_runner.attest.tree import CACHE_FOLDER, Entry, entries, entry_of
from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.errors import Failed

# What pyproject.toml names for the enclave; a test holds the two together. The optional ones count where installed.
REQUIRED = (
    "cryptography",
    "duckdb",
    "msgspec",
    "numba",
    "numpy",
    "onnxruntime",
    "opendp",
    "pyarrow",
    "rbcl",
    "sqlglot",
    "tenseal",
)
OPTIONAL = ("gmssl-pyx", "python-pkcs11")
HOOKS = ("sitecustomize", "usercustomize")
REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9._-]+")


@cache  # of what this process has imported; files that change later do not change that
def packages_digest() -> str:
    """SHA-256 over name, version and files of every distribution that the enclave imports, and of those that they need.

    The files are read: what an installer noted about them proves nothing. Whole package folders count, so that a file
    that was put beside them is seen; notes of the installer do not, they differ from machine to machine.

    Raises:
        Failed: `attest.packages` when one is missing, or would be imported from somewhere else than was measured.
    """
    found = []
    for name, dist in sorted(closure((*REQUIRED, *OPTIONAL)).items()):
        check_origin(dist)
        content = {entry.path: entry for entry in installed(dist)}
        found.append((name, dist.version, sorted(content.values(), key=lambda entry: entry.path)))
    return digest(encode(found))


def closure(roots: Iterable[str]) -> dict[str, Distribution]:
    """The distributions with these names and whatever of their requirements is installed, by normalised name."""
    found: dict[str, Distribution] = {}
    pending = list(roots)
    while pending:
        name = _normal(pending.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if name in REQUIRED:
                raise Failed("attest.packages") from None
            continue
        needed = [line for line in found[name].requires or [] if "extra ==" not in line]
        pending += [match[0] for line in needed if (match := REQUIREMENT_NAME.match(line))]
    return found


def installed(dist: Distribution) -> Iterator[Entry]:
    """The files of a distribution: those it lists, and all that stand in its packages' folders."""
    listed = [file for file in dist.files or [] if _counts(file)]
    folders = sorted({file.parent for file in listed if file.name == "__init__.py"}, key=lambda path: len(path.parts))
    tops = [folder for folder in folders if not any(parent in folders for parent in folder.parents)]
    for folder in tops:
        yield from entries(str(dist.locate_file(folder)), f"{folder}/")
    for file in listed:
        if not any(folder in tops for folder in file.parents):
            yield entry_of(str(dist.locate_file(file)), str(file))


def check_origin(dist: Distribution) -> None:
    """What an import of its modules finds must be the measured file: something earlier on the path could hide it.

    Raises:
        Failed: `attest.packages` when it is another one.
    """
    for file in dist.files or []:
        parts = file.parts
        is_package = len(parts) == 2 and parts[1] == "__init__.py"
        is_module = len(parts) == 1 and file.name.endswith(tuple(importlib.machinery.all_suffixes()))
        if is_package or is_module:
            spec = importlib.util.find_spec(parts[0].partition(".")[0])
            origin = spec.origin if spec is not None else None
            if origin is None or not os.path.samefile(origin, str(dist.locate_file(file))):
                raise Failed("attest.packages")


@cache
def startup_digest() -> str:
    """SHA-256 over what runs when an interpreter like this one starts: lines of .pth files that import, and the two
    customisation modules."""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    found = [hook for folder in folders for hook in path_hooks(folder)]
    for name in HOOKS:
        origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None)
        if origin is not None:
            found.append(entry_of(os.path.realpath(origin), name))
    return digest(encode(sorted(found, key=lambda entry: (entry.path, entry.content))))


def path_hooks(folder: str) -> Iterator[Entry]:
    """The .pth files of a folder that run code, with the digest of the lines that do."""
    if not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        if name.endswith(".pth"):
            with open(os.path.join(folder, name), "rb") as file:
                lines = [line for line in file.read().splitlines() if line.startswith((b"import ", b"import\t"))]
            if lines:
                yield Entry(path=name, mode=0, content=digest(b"\n".join(lines)))


def _counts(file: PackagePath) -> bool:
    """Not scripts outside of site-packages, not bytecode, not the installer's notes."""
    return not (".." in file.parts or CACHE_FOLDER in file.parts or file.parts[0].endswith(".dist-info"))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
