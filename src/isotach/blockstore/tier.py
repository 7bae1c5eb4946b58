"""One tier: a folder with a quota, its container files, its index, and the count of bytes in use.

Owns: `<path>/containers/<version as 16 hex digits>`, `<path>/index/` and the accounting. Never: decides what goes in
or out (`BlockStore` does, and holds its lock while it calls `fits`, `take` and `give_back`).

Bytes are counted before they are written. The tier never takes more than its quota, nor more than what the file
system really has free less a small reserve for everybody else.
"""

import os
import threading
import time
from typing import Final

from isotach.base.limits import GIB, STALE_READERS_CHECK_S, TIER_RESERVE_BYTES
from isotach.base.types import TierInfo, Version
from isotach.blockstore.container import FULL_ERRNOS
from isotach.blockstore.index import FORMAT_VERSION, INCARNATION_KEY
from isotach.conf.kinds import TierSpec
from isotach.kv.interface import Batch
from isotach.kv.lmdb_store import LmdbStore

MEMORY_ALIAS: Final = "MEM"
DRAFT_SUFFIX: Final = ".draft"
_FLAGS: Final = os.O_CLOEXEC | os.O_NOATIME
_INDEX_MAP_BYTES: Final = 64 * GIB  # address space only


class Tier:
    """An open tier. Raises AlreadyRunningError when another worker has it open."""

    def __init__(self, spec: TierSpec) -> None:
        self.alias: Final = spec.alias
        self.path: Final = spec.path
        self.quota_bytes: Final = spec.quota_bytes
        self.is_memory: Final = spec.alias == MEMORY_ALIAS
        self.used_bytes = 0
        self._closed = False
        self.evicted_files = 0
        self.evicted_bytes = 0
        self.checksum_errors = 0
        self.unwritten_bytes = 0  # taken, but not yet seen by statvfs
        folder = spec.path / "containers"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.index: Final = LmdbStore(
            spec.path / "index", map_bytes=_INDEX_MAP_BYTES, sync=not self.is_memory, format_version=FORMAT_VERSION
        )
        self._committing: Final = threading.Lock()
        self._readers_checked_s = time.monotonic()
        #: Versions that carry it in their header row may be opened by trusted processes beside the worker.
        self.incarnation: Final = os.urandom(8)
        self.is_readable_beside = self._begin_incarnation()
        self._folder: Final = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        #: Held while a large range is written: the kernel lets one writer at a time into a file (and, in tmpfs, hands
        #: out memory no faster to two), and the others would spin for it, burning the cores that fetch.
        self.writing: Final = threading.Lock()
        #: Versions whose rows could not be deleted (a full disk): they must go before the version comes in again.
        self.stale_rows: Final[dict[Version, int]] = {}

    def close(self) -> None:
        """Gives the folder back. Safe to call twice."""
        if not self._closed:
            self._closed = True
            os.close(self._folder)
            self.index.close()

    # --- containers ---

    def create(self, version: Version, length: int) -> int:
        """A new, sparse container of `length` bytes; its descriptor, for reading and writing."""
        descriptor = os.open(
            container_name(version), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=self._folder
        )
        try:
            os.ftruncate(descriptor, length)
        except BaseException:
            os.close(descriptor)
            self.unlink(version)
            raise
        return descriptor

    def open(self, version: Version, flags: int = os.O_RDONLY) -> int:
        """A descriptor of an open file description of its own; reading it does not change the access time. Raises
        FileNotFoundError when it has just left."""
        return os.open("%016x" % version, flags | _FLAGS, dir_fd=self._folder)  # noqa: UP031 - the hot path

    def access_time_ns(self, version: Version) -> int:
        """When a reader beside the worker last said that it opened the container; 0 when there is none."""
        try:
            return os.stat(container_name(version), dir_fd=self._folder).st_atime_ns
        except FileNotFoundError:
            return 0

    def unlink(self, version: Version) -> None:
        """Removes the container; those who have it open keep its bytes."""
        try:
            os.unlink(container_name(version), dir_fd=self._folder)
        except FileNotFoundError:
            pass

    def container_versions(self) -> set[Version]:
        """The versions that have a container file. Other files are left alone."""
        with os.scandir(self._folder) as files:
            return {int(entry.name, 16) for entry in files if len(entry.name) == 16 and _is_hex(entry.name)}

    def create_draft(self, name: str) -> int:
        """A new, empty file for a version that is being written; its descriptor, for reading and writing."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._folder)

    def publish_draft(self, name: str, version: Version) -> None:
        """Makes a draft the container of its version, in place of any before it."""
        os.rename(name, container_name(version), src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def remove_draft(self, name: str) -> None:
        """Removes a draft; no error when it is gone."""
        try:
            os.unlink(name, dir_fd=self._folder)
        except FileNotFoundError:
            pass

    def remove_drafts(self) -> None:
        """Removes what writers of a process that died have left."""
        with os.scandir(self._folder) as files:
            names = [entry.name for entry in files if entry.name.endswith(DRAFT_SUFFIX)]
        for name in names:
            self.remove_draft(name)

    # --- index ---

    def commit(self, batch: Batch) -> None:
        """Commits to the index; durable on a disk tier. Raises OSError(ENOSPC)."""
        with self._committing:
            self._clear_stale_readers()
            self.index.commit(batch)

    def _clear_stale_readers(self) -> None:
        """Now and then: a reader that was killed would keep old pages of the index from being used again."""
        now_s = time.monotonic()
        if now_s - self._readers_checked_s > STALE_READERS_CHECK_S:
            self._readers_checked_s = now_s
            self.index.clear_stale_readers()

    def _begin_incarnation(self) -> bool:
        """From here on nothing that an earlier process wrote may be read beside us before we have verified it."""
        try:
            self.commit([(INCARNATION_KEY, self.incarnation)])
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            return False
        return True

    # --- accounting; under the store's lock ---

    def fits(self, size: int) -> bool:
        """Whether `size` bytes more may be written now."""
        if self.used_bytes + size > self.quota_bytes:
            return False
        status = os.fstatvfs(self._folder)
        reserve = min(TIER_RESERVE_BYTES, status.f_blocks * status.f_frsize // 64)
        return self.unwritten_bytes + size + reserve <= status.f_bavail * status.f_frsize

    def take(self, size: int) -> None:
        """Counts bytes that are about to be written."""
        self.used_bytes += size
        self.unwritten_bytes += size

    def written(self, size: int) -> None:
        """The bytes taken have been written (or given up): statvfs sees them from now on."""
        self.unwritten_bytes -= size

    def give_back(self, size: int) -> None:
        """Bytes have been removed."""
        self.used_bytes -= size

    def info(self) -> TierInfo:
        """Capacity and use."""
        return TierInfo(self.alias, self.quota_bytes, max(0, self.used_bytes))


def container_name(version: Version) -> str:
    """The file name of a version's container."""
    return f"{version:016x}"


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)
