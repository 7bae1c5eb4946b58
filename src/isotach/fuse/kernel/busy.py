"""Who uses a mount: the processes whose folder, root, program, open files or mappings lie in it.

Owns: reading /proc. Never: touches the mount itself, which may hang; links of /proc are read, not followed.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from isotach.base.limits import FUSE_BUSY_NAMED_MAX
from isotach.fuse.kernel.stale import all_mounts


def holders(mountpoint: Path, device: str) -> str:
    """In words, a few of them: `python3 (process 123: open file /mnt/a)`; empty: nobody that we may see.

    `device` is the mount's "major:minor", by which mappings of it are known ("": by their paths only).
    """
    inside = os.fsencode(mountpoint)
    found = [
        f"the mount {os.fsdecode(row.mountpoint)} in it" for row in all_mounts() if _is_below(row.mountpoint, inside)
    ]
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if len(found) >= FUSE_BUSY_NAMED_MAX:
            break
        use = next(_uses(pid, inside, device), None)
        if use is not None:
            who = "this very command" if pid == os.getpid() else _name(pid)
            found.append(f"{who} (process {pid}: {use})")
    return ", ".join(found[:FUSE_BUSY_NAMED_MAX])


def _uses(pid: int, inside: bytes, device: str) -> Iterator[str]:
    folder = f"/proc/{pid}"
    for link, what in (("cwd", "its folder is"), ("root", "its root is"), ("exe", "its program is")):
        yield from _use(f"{folder}/{link}", what, inside)
    with contextlib.suppress(OSError):
        for number in os.listdir(f"{folder}/fd"):
            yield from _use(f"{folder}/fd/{number}", "it has open", inside)
    with contextlib.suppress(OSError):
        for line in Path(folder, "maps").read_bytes().splitlines():
            fields = line.split(None, 5)
            if len(fields) == 6 and (_is_in(fields[5], inside) or _is_device(fields[3], device)):
                yield f"it maps {os.fsdecode(fields[5])}"


def _use(link: str, what: str, inside: bytes) -> Iterator[str]:
    try:
        target = os.readlink(os.fsencode(link))
    except OSError:
        return  # it ended, or is another user's
    if _is_in(target, inside):
        yield f"{what} {os.fsdecode(target)}"


def _is_in(path: bytes, folder: bytes) -> bool:
    return path == folder or _is_below(path, folder)


def _is_below(path: bytes, folder: bytes) -> bool:
    return path.startswith(folder.rstrip(b"/") + b"/")


def _is_device(field: bytes, device: str) -> bool:
    """`field` as /proc/PID/maps has it, hexadecimal."""
    major, colon, minor = device.partition(":")
    return bool(colon) and field == b"%02x:%02x" % (int(major), int(minor))


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a program"
