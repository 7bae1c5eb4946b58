"""Mounts of ours in /proc/self/mountinfo: which there are, and which nobody serves any more.

Owns: reading that table, and telling a dead mount without hanging on one. Never: unmounts (`mounting` does).
"""

import errno
import os
import re
import threading
from pathlib import Path
from typing import Final

import msgspec

from isotach.base.limits import FUSE_PROBE_S
from isotach.fuse.kernel.options import FS_TYPE

_QUESTION: Final = "security.capability"
_ANSWERS: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS})
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


class MountRow(msgspec.Struct, frozen=True):
    """One row of the table. `device` is "major:minor", which no two file systems share."""

    mountpoint: bytes
    device: str
    fs_type: str
    source: bytes
    options: str


def parse_mountinfo(text: bytes) -> list[MountRow]:
    """The rows, in the order in which they were mounted; a later one hides an earlier one of the same path. Pure."""
    rows = []
    for line in text.splitlines():
        fields, _, rest = line.partition(b" - ")
        before, after = fields.split(b" "), rest.split(b" ")
        if len(before) < 6 or len(after) < 2:
            continue
        options = b",".join([before[5], *after[2:3]]).decode(errors="replace")
        device, fs_type = before[2].decode(), after[0].decode(errors="replace")
        rows.append(MountRow(_unescaped(before[4]), device, fs_type, _unescaped(after[1]), options))
    return rows


def _unescaped(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)


def all_mounts() -> list[MountRow]:
    """Every mount that this process sees."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())


def our_mounts() -> list[MountRow]:
    """Those of ours."""
    return [row for row in all_mounts() if row.fs_type == FS_TYPE]


def mount_at(mountpoint: Path) -> MountRow | None:
    """What is mounted right there, the topmost; None: nothing is."""
    path = os.fsencode(mountpoint)
    return next((row for row in reversed(all_mounts()) if row.mountpoint == path), None)


def is_mounted(mountpoint: Path, device: str) -> bool:
    """Whether that very file system is (still) mounted there."""
    path = os.fsencode(mountpoint)
    return any(row.mountpoint == path and row.device == device for row in all_mounts())


def is_stale(mountpoint: Path) -> bool:
    """Whether nobody serves the mount: its device was closed. One that is merely slow is not stale."""
    return errno_of_mount(mountpoint, FUSE_PROBE_S) in (errno.ENOTCONN, errno.ECONNABORTED)


def errno_of_mount(mountpoint: Path, timeout_s: float) -> int:
    """0 when whoever serves the mount answers, else the errno; ETIMEDOUT when there is none by then.

    Asked for is an attribute that no directory has: the kernel keeps no answer to that (as it does of stat(2)), and a
    daemon knows it without asking anybody. In a thread of its own, since a daemon that hangs never answers.
    """
    outcome: list[int] = []
    done = threading.Event()

    def ask() -> None:
        try:
            os.getxattr(mountpoint, _QUESTION)
            outcome.append(0)
        except OSError as error:
            outcome.append(0 if error.errno in _ANSWERS else error.errno or errno.EIO)
        done.set()

    threading.Thread(target=ask, name="mount-probe", daemon=True).start()
    return outcome[0] if done.wait(timeout_s) and outcome else errno.ETIMEDOUT
