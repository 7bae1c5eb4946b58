"""Reading a store that another process owns: one environment per folder and process, for any number of users.

Owns: the environments of this process that were opened so, their counts, and what a fork does to them. Never: writes,
or keeps a snapshot between two looks: an idle one would keep old pages from being used again.

LMDB forbids to open an environment twice in one process, and to use an inherited one: closing it in a forked child
would free the parent's reader slots. So a child leaves it alone for good, and its users must do without.
"""

import os
import threading
from pathlib import Path
from typing import Final

import lmdb

from isotach.base.limits import GIB, KV_READERS_MAX, KV_SPARE_TRANSACTIONS
from isotach.kv.interface import FORMAT_KEY, check_format
from isotach.kv.lmdb_store import LmdbSnapshot

#: What a look into a shared store may raise beside OSError: it is damaged, has grown beyond the map, or was closed.
StoreError: Final[type[Exception]] = lmdb.Error

_MAP_BYTES: Final = 256 * GIB  # address space only; a store that outgrows it is read through its owner again
_open: dict[Path, "SharedReader"] = {}
_inherited: list["SharedReader"] = []
_lock = threading.Lock()


class SharedReader:
    """One environment, read-only; made by `acquire`. Safe for many threads."""

    def __init__(self, path: Path, format_version: int) -> None:
        """Raises OSError or StoreError when it cannot be opened, InvalidArgumentError for a newer format."""
        self._data: Final = os.fspath(path / "data.mdb")
        status = os.stat(self._data)
        self._identity: Final = (status.st_ino, status.st_dev)
        self._path: Final = path
        self._lock: Final = threading.Lock()
        self._looks = 0  # snapshots taken and not given back
        self._closing = False
        self._inherited = False
        self.users = 0
        self._environment: Final = lmdb.open(
            os.fspath(path),
            map_size=_MAP_BYTES,
            readonly=True,
            create=False,
            max_readers=KV_READERS_MAX,
            max_spare_txns=KV_SPARE_TRANSACTIONS,
        )
        try:
            snapshot = self.look()
            try:
                missing = check_format(snapshot.get(FORMAT_KEY), format_version, os.fspath(path))
            finally:
                self.end(snapshot)
            if missing or not self.is_current():
                raise OSError(f"{path} is being made anew: ask its owner")
        except BaseException:
            self._environment.close()
            raise

    def is_current(self) -> bool:
        """Whether this is still the store that stands at its path (about 2 us): the owner may have made another one.
        Raises OSError when there is none."""
        status = os.stat(self._data)
        return (status.st_ino, status.st_dev) == self._identity

    def look(self) -> LmdbSnapshot:
        """The newest commit, to be given to `end` at once. Raises StoreError, and OSError when it was closed."""
        if self._inherited:  # then its lock may be held for ever by a thread that this process does not have
            raise OSError(f"the reader of {self._path} is the parent's: ask the owner of the store")
        with self._lock:
            if self._closing:
                raise OSError(f"the reader of {self._path} was closed: acquire it again")
            self._looks += 1
        try:
            return _Look(self._environment)
        except BaseException:
            self._leave()
            raise

    def end(self, snapshot: LmdbSnapshot) -> None:
        """Gives a snapshot back."""
        snapshot.close()
        self._leave()

    def release(self) -> None:
        """Ends one `acquire`; the last one closes the environment."""
        with _lock:
            self.users -= 1
            if self.users or self._inherited:
                return
            if _open.get(self._path) is self:
                del _open[self._path]
        with self._lock:
            self._closing = True
            is_idle = not self._looks
        if is_idle:
            self._environment.close()

    def leave_to_parent(self) -> None:
        """In a forked child: never touched again."""
        self._inherited = True

    def _leave(self) -> None:
        with self._lock:
            self._looks -= 1
            is_last = self._closing and not self._looks
        if is_last:
            self._environment.close()


class _Look(LmdbSnapshot):
    """A snapshot that never moves the map: other threads may stand in it."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._begin(environment.begin())


def acquire(path: Path, format_version: int) -> SharedReader:
    """The reader of the store in this folder; each call is to be matched by one `release`. Raises as `SharedReader`."""
    with _lock:
        reader = _open.get(path)
        if reader is not None and not _is_current(reader):
            del _open[path]  # its users find out for themselves
            reader = None
        if reader is None:
            reader = _open[path] = SharedReader(path, format_version)
        reader.users += 1
        return reader


def _is_current(reader: SharedReader) -> bool:
    try:
        return reader.is_current()
    except OSError:
        return False


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for reader in _open.values():
        reader.leave_to_parent()
        _inherited.append(reader)  # kept for good: its end would close the environment
    _open.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
