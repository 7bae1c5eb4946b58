"""A worker's tier, read beside it: containers opened by name.

Owns: the order of the checks that make that sound. Never: opens what is not complete and verified.

The container is opened and locked (shared) first, then a fresh snapshot of the index is asked, then the link count: a
container that is still linked after the index called the version complete is the one that the index speaks of, and from
the lock on the evictor leaves it alone. Its access time tells the evictor of the use.

The index is asked each time whose cluster's it is, too: another folder may stand here by now, or a worker of another
cluster may have taken this one.
"""

import fcntl
import os
import weakref
from pathlib import Path
from typing import Final

from isotach.base.types import Version
from isotach.blockstore.container import note_access
from isotach.blockstore.index import FORMAT_VERSION, may_be_opened
from isotach.kv.shared_reader import acquire

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME
NOT_HERE: Final = -1


class DirectTier:
    """The tier in this folder, of the cluster with this stamp. Raises OSError or StoreError from every call."""

    def __init__(self, path: Path, cluster: bytes) -> None:
        self._cluster: Final = cluster
        self._index: Final = acquire(path / "index", FORMAT_VERSION)
        try:
            # By descriptor: when folder and index are made anew, this one has no containers any more.
            self._containers: Final = os.open(path / "containers", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            self._index.release()
            raise
        # Only when no thread is inside `open` any more: the number may mean another folder from then on.
        weakref.finalize(self, os.close, self._containers)

    def is_current(self) -> bool:
        """Whether the worker still has this index."""
        return self._index.is_current()

    def open(self, version: Version, length: int) -> int:
        """A read-only descriptor of the whole version, in use as long as any copy of it lives; or NOT_HERE."""
        try:
            descriptor = os.open("%016x" % version, _FLAGS, dir_fd=self._containers)  # noqa: UP031 - the hot path
        except FileNotFoundError:
            return NOT_HERE
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if self._may_be_opened(version, length):
                status = os.fstat(descriptor)
                if status.st_nlink and status.st_size == length:
                    note_access(descriptor, status.st_mtime_ns)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return NOT_HERE

    def _may_be_opened(self, version: Version, length: int) -> bool:
        snapshot = self._index.look()
        try:
            return may_be_opened(snapshot.get, version, length, self._cluster)
        finally:
            self._index.end(snapshot)

    def close(self) -> None:
        """Gives the index back; to be called once. The folder follows when the object goes."""
        self._index.release()
