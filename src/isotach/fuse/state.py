"""The note that each mount leaves in `<dir>/fuse`, so that `isotach fuse list` and others find its processes.

Owns: the file's name and fields, and judging whether its processes live. Never: is believed over the
kernel's own table.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

_FOLDER: Final = "fuse"


class MountState(msgspec.Struct, frozen=True, kw_only=True):
    """One mount. `pid` keeps the mount, `server_pid` serves it; `since_s` is Unix time; `identity` "major:minor"."""

    pid: int
    server_pid: int
    mountpoint: str
    source: str
    address: str
    options: list[str]
    identity: str
    since_s: int
    restarts: int = 0
    passthrough: str = ""  # why there is none; empty: there is

    @property
    def is_alive(self) -> bool:
        """Whether the process that keeps it lives."""
        return is_process(self.pid)


def is_process(pid: int) -> bool:
    """Whether there is a process of that number, a zombie being none."""
    if pid <= 0:
        return False
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return text.rpartition(b")")[2].split()[:1] != [b"Z"]


def state_file(folder: Path, mountpoint: Path) -> Path:
    """Where the note of a mount lies; `folder` is the key `dir`."""
    return folder / _FOLDER / f"{name_of(mountpoint)}.json"


def name_of(mountpoint: Path) -> str:
    """A name for files about this mount: no mountpoint fits into one."""
    return hashlib.blake2b(os.fsencode(mountpoint), digest_size=8).hexdigest()


def write_state(folder: Path, state: MountState) -> None:
    """Writes the note whole, or leaves the one that is there."""
    path = state_file(folder, Path(state.mountpoint))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(state))
    temporary.replace(path)


def remove_state(folder: Path, mountpoint: Path, pid: int) -> None:
    """Removes the note if it is still this process's."""
    state = read_state(state_file(folder, mountpoint))
    if state is not None and state.pid == pid:
        state_file(folder, mountpoint).unlink(missing_ok=True)


def read_state(path: Path) -> MountState | None:
    """The note; None: there is none, or it is no note."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=MountState)
    except (OSError, msgspec.MsgspecError):
        return None


def all_states(folder: Path) -> Iterator[MountState]:
    """Every note in the folder, also of mounts that are gone."""
    for path in sorted((folder / _FOLDER).glob("*.json")):
        state = read_state(path)
        if state is not None:
            yield state


def wait_for_end(pid: int, timeout_s: float) -> bool:
    """Whether the process has ended by then."""
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return not is_process(pid)
    try:
        deadline = time.monotonic() + timeout_s
        return bool(select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0])
    finally:
        os.close(descriptor)
