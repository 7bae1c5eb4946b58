"""Defaults that depend on the machine, the user, or other keys.

Owns: how each is computed. Never: looks at the machine itself; it gets a `Machine` and the values resolved before.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from isotach.base.limits import PAGE_BYTES
from isotach.conf.machine import Machine

_MEM_SHARE_OF_RAM: Final = 4  # one quarter


def home_dir(machine: Machine, _values: Mapping[str, Any]) -> Path:
    """The same rule for everyone, root included: no surprise about where a cache lies."""
    return machine.home / ".isotach"


def in_dir(name: str) -> "FolderInDir":
    """The derivation of `<dir>/name`."""
    return FolderInDir(name)


class FolderInDir:
    """`<dir>/name`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, _machine: Machine, values: Mapping[str, Any]) -> Path:
        return Path(values["dir"]) / self._name


def root_ufs(_machine: Machine, values: Mapping[str, Any]) -> str:
    """A local folder, so that a fresh instance works without any store."""
    return os.fspath(Path(values["dir"]) / "underFSStorage")


def readers(machine: Machine, _values: Mapping[str, Any]) -> int:
    """One core is left to the writer."""
    return max(1, machine.cores - 1)


def mem_dir(machine: Machine, values: Mapping[str, Any]) -> Path:
    """A folder of its own for each worker folder, so that two instances never share (or evict) each other's bytes."""
    worker_dir = Path(values["worker.dir"])
    if machine.tmpfs is None:
        return worker_dir / "mem"
    digest = hashlib.sha256(os.fsencode(worker_dir)).hexdigest()[:10]
    return machine.tmpfs / f"isotach-{machine.user}-{digest}"


def mem_size(machine: Machine, values: Mapping[str, Any]) -> int:
    """A quarter of the memory, but never more than there is room for: a full tmpfs kills its writers."""
    room = machine.room_bytes(Path(values["worker.mem_dir"]))
    size = min(machine.ram_bytes // _MEM_SHARE_OF_RAM, room)
    return size - size % PAGE_BYTES


def user(machine: Machine, _values: Mapping[str, Any]) -> str:
    """The login name."""
    return machine.user
