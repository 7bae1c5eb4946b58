"""One folder of a tier: its container files, its index, its quota and the count of bytes in use.

Owns: `<path>/containers/<version as 16 hex digits>`, `<path>/index/`, the accounting, and the look whether the folder
still serves. Never: decides what goes in or out (`Shelves` does, and holds its lock while it calls `fits`, `take` and
`give_back`).

Bytes are counted before they are written. The folder never takes more than its quota, nor more than what the file
system really has free less a small reserve for everybody else.

A folder that failed stays failed: when the disk is back, a new `Folder` is made of it. The old one keeps its
descriptor for as long as anybody has the object, so that no number is ever used for another folder.
"""

import errno
import itertools
import os
import threading
import time
import weakref
from collections import deque
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from isotach.base.limits import GIB, LARGE_REMOVAL_BYTES, PAGE_BYTES, STALE_READERS_CHECK_S, TIER_RESERVE_BYTES
from isotach.base.types import FolderInfo, Version
from isotach.blockstore.container import FULL_ERRNOS, is_in_memory
from isotach.blockstore.index import FORMAT_VERSION, INCARNATION_KEY
from isotach.blockstore.ownership import claim
from isotach.conf.kinds import TierSpec
from isotach.kv.interface import Batch, Snapshot
from isotach.kv.lmdb_store import LmdbStore

MEMORY_ALIAS: Final = "MEM"
DRAFT_SUFFIX: Final = ".draft"
NOTE_SUFFIX: Final = ".note"  # beside a draft that a later process may go on with
_serial: Final = itertools.count()
_NAME_LETTERS: Final = 16
_HEX: Final = frozenset("0123456789abcdef")
_SECTOR_BYTES: Final = 512  # the unit of st_blocks
_QUOTA_SLACK: Final = 8
_PROBE: Final = f"probe{DRAFT_SUFFIX}"
_FLAGS: Final = os.O_CLOEXEC | os.O_NOATIME
_INDEX_MAP_BYTES: Final = 64 * GIB  # address space only
#: Errors that say nothing of a folder: this process or machine is short of something.
_NOT_THE_FOLDER: Final = FULL_ERRNOS | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN}


class Folder:
    """An open folder of the cluster whose stamp is given. Raises AlreadyRunningError when another worker has it open,
    ForeignFolderError when it is another cluster's and must not be emptied, OSError when it cannot serve."""

    def __init__(self, spec: TierSpec, cluster: bytes) -> None:
        self.spec: Final = spec
        self.alias: Final = spec.alias
        self.path: Final = spec.path
        #: Called MEM: its content is not expected to outlive the machine's memory, and is never fsynced.
        self.is_memory: Final = spec.alias == MEMORY_ALIAS
        #: Why it is out of service; empty while it serves.
        self.failure = ""
        self.used_bytes = 0
        self.unwritten_bytes = 0  # taken, but not yet seen by statvfs
        #: Somebody went elsewhere for want of room here: the mover empties it down to the low watermark.
        self.is_pressed = False
        self._leaving: Final[deque[tuple[str, int]]] = deque()
        self._leaving_bytes = 0  # free as soon as the mover comes to it
        containers = spec.path / "containers"
        containers.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.index: Final = LmdbStore(
            spec.path / "index", map_bytes=_INDEX_MAP_BYTES, sync=not self.is_memory, format_version=FORMAT_VERSION
        )
        self._folder: Final = os.open(containers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._release: Final = weakref.finalize(self, os.close, self._folder)
        try:
            self._index_file: Final = _identity(os.stat(spec.path / "index" / "data.mdb"))
            self.quota_bytes: Final = self._quota_of(spec)
            #: Whether it may hold what must never be on a disk, whatever it is called.
            self.holds_memory_only: Final = is_folder_in_memory(containers) and is_folder_in_memory(spec.path / "index")
            claim(self.index, spec.path, cluster, is_memory=self.is_memory, remove_containers=self._remove_containers)
            self._committing: Final = threading.Lock()
            self._readers_checked_s = time.monotonic()
            #: Versions that carry it in their header row may be opened by trusted processes beside the worker.
            self.incarnation: Final = os.urandom(8)
            self.is_readable_beside = self._begin_incarnation()
        except BaseException:
            self.close()
            raise
        #: Held while a large range is written: the kernel lets one writer at a time into a file (and, in tmpfs, hands
        #: out memory no faster to two), and the others would spin for it, burning the cores that fetch.
        self.writing: Final = threading.Lock()
        #: Versions whose rows could not be deleted (a full disk): they must go before the version comes in again.
        self.stale_rows: Final[dict[Version, int]] = {}

    def _quota_of(self, spec: TierSpec) -> int:
        if not spec.percent:
            return spec.quota_bytes
        status = os.fstatvfs(self._folder)
        share = int(status.f_blocks * status.f_frsize * spec.percent / 100)
        return share - share % PAGE_BYTES

    def close(self) -> None:
        """Gives the folder back. Safe to call twice."""
        self.index.close()
        self._release()

    # --- containers ---

    def open(self, version: Version, flags: int = os.O_RDONLY) -> int:
        """A descriptor of an open file description of its own; reading it does not change the access time. Raises
        FileNotFoundError when it has just left."""
        return os.open("%016x" % version, flags | _FLAGS, dir_fd=self._folder)  # noqa: UP031 - the hot path

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

    def access_time_ns(self, version: Version) -> int:
        """When a reader beside the worker last said that it opened the container; 0 when there is none."""
        try:
            return os.stat(container_name(version), dir_fd=self._folder).st_atime_ns
        except OSError:
            return 0

    def unlink(self, version: Version) -> None:
        """Removes the container; those who have it open keep its bytes. A broken folder keeps it: nobody asks it."""
        self.remove_file(container_name(version))

    def discard(self, version: Version, size: int) -> bool:
        """Removes the container of `size` bytes, a large one later (True): freeing gigabytes takes a file system
        seconds, for which nobody is to hold a lock."""
        if size < LARGE_REMOVAL_BYTES:
            self.unlink(version)
            return False
        name = f"{container_name(version)}-gone{next(_serial)}{DRAFT_SUFFIX}"
        try:
            os.rename(container_name(version), name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            self.unlink(version)
            return False
        self._leaving_bytes += size
        self._leaving.append((name, size))
        return True

    def remove_discarded(self) -> None:
        """Removes what `discard` left for later. One thread at a time."""
        while self._leaving:
            name, size = self._leaving.popleft()
            self.remove_file(name)
            self._leaving_bytes -= size

    def container_names(self) -> set[str]:
        """The files that have a container's name. Others are left alone, but for drafts: those that a process that died
        has left are removed, unless a note beside them says what they are."""
        names = set(os.listdir(self._folder))
        for name in names:
            is_draft = name.endswith(DRAFT_SUFFIX) and name + NOTE_SUFFIX not in names
            is_note = name.endswith(DRAFT_SUFFIX + NOTE_SUFFIX) and name.removesuffix(NOTE_SUFFIX) not in names
            if is_draft or is_note:
                self.remove_file(name)
        return {name for name in names if len(name) == _NAME_LETTERS and _HEX.issuperset(name)}

    def noted_drafts(self) -> list[str]:
        """Drafts with a note beside them."""
        names = set(os.listdir(self._folder))
        return sorted(name for name in names if name.endswith(DRAFT_SUFFIX) and name + NOTE_SUFFIX in names)

    def _remove_containers(self) -> None:
        for name in self.container_names():
            self.remove_file(name)
        for name in self.noted_drafts():
            self.remove_file(name + NOTE_SUFFIX)
            self.remove_file(name)

    def create_draft(self, name: str) -> int:
        """A new, empty file for a version that is being written; its descriptor, for reading and writing."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._folder)

    def publish_draft(self, name: str, version: Version) -> None:
        """Makes a draft the container of its version, in place of any before it."""
        os.rename(name, container_name(version), src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def link_draft(self, name: str, version: Version) -> None:
        """Makes a draft the container of its version, too; the draft's own name stays."""
        self.unlink(version)
        os.link(name, container_name(version), src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def open_file(self, name: str, flags: int = os.O_RDWR) -> int:
        """A descriptor of a file of the containers' folder."""
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=self._folder)

    def stored_bytes(self, name: str) -> int:
        """What a file takes on the file system."""
        return os.stat(name, dir_fd=self._folder).st_blocks * _SECTOR_BYTES

    def write_file(self, name: str, content: bytes, *, durable: bool) -> None:
        """Puts a small file in place as a whole; `durable`: on the disk on return."""
        scratch = f"new{next(_serial)}-{name}{DRAFT_SUFFIX}"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        try:
            os.write(descriptor, content)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(scratch, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        if durable:
            os.fsync(self._folder)

    def read_file(self, name: str) -> bytes:
        """A small file as a whole. Raises FileNotFoundError."""
        with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder), "rb") as file:
            return file.read()

    def publish_back(self, version: Version, name: str) -> None:
        """Takes `publish_draft` back; no error when the folder is broken."""
        try:
            os.rename(container_name(version), name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            if not self.trouble():
                raise

    def remove_file(self, name: str) -> None:
        """Removes a file of the containers' folder; no error when it is gone."""
        try:
            os.unlink(name, dir_fd=self._folder)
        except FileNotFoundError:
            pass
        except OSError:
            if not self.failure and not self.trouble():
                raise

    # --- whether it serves ---

    def trouble(self, *, thorough: bool = True) -> str:
        """What keeps the folder from serving; empty when it serves. `thorough` writes to the disk itself. A folder that
        is merely full serves."""
        try:
            if _identity(os.stat(self.path / "containers")) != _identity(os.fstat(self._folder)):
                return "another folder stands in its place"
            if _identity(os.stat(self.path / "index" / "data.mdb")) != self._index_file:
                return "its index was replaced"
            if os.fstatvfs(self._folder).f_flag & os.ST_RDONLY:
                return "its file system is read-only"
            self._probe(thorough)
        except OSError as error:
            return "" if error.errno in _NOT_THE_FOLDER else str(error)
        return ""

    def _probe(self, thorough: bool) -> None:
        descriptor = os.open(_PROBE, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        try:
            os.pwrite(descriptor, b"probe", 0)
            if thorough and not self.is_memory:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
            os.unlink(_PROBE, dir_fd=self._folder)

    # --- index ---

    def commit(self, batch: Batch) -> None:
        """Commits to the index; durable on a disk tier. Raises OSError: ENOSPC, or ENODEV once the folder failed."""
        if self.failure:
            raise OSError(errno.ENODEV, f"this folder is out of service: {self.failure}", str(self.path))
        with self._committing:
            self._clear_stale_readers()
            self.index.commit(batch)

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """The index as of now. Raises OSError(ENODEV) once the folder failed."""
        if self.failure:
            raise OSError(errno.ENODEV, f"this folder is out of service: {self.failure}", str(self.path))
        return self.index.snapshot()

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
        return size <= self.quota_bytes - self.used_bytes and size <= self.room_bytes()

    def room_bytes(self) -> int:
        """Bytes that may still be written: what quota and file system leave. Below 0 when too much is here."""
        if self.failure:
            return -1
        try:
            status = os.fstatvfs(self._folder)
        except OSError:
            return -1
        reserve = min(TIER_RESERVE_BYTES, status.f_blocks * status.f_frsize // 64)
        free = status.f_bavail * status.f_frsize - reserve - self.unwritten_bytes + self._leaving_bytes
        return min(self.quota_bytes - self.used_bytes, free)

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

    @property
    def is_limited_by_its_file_system(self) -> bool:
        """Whether the file system ends about where the quota does, so that nobody need count for it to hold."""
        status = os.fstatvfs(self._folder)
        return status.f_blocks * status.f_frsize <= self.quota_bytes + self.quota_bytes // _QUOTA_SLACK

    def info(self) -> FolderInfo:
        """Capacity and use."""
        return FolderInfo(str(self.path), self.quota_bytes, max(0, self.used_bytes))


def container_name(version: Version) -> str:
    """The file name of a version's container."""
    return f"{version:016x}"


def is_folder_in_memory(path: Path) -> bool:
    """Whether there is a folder, and its file system keeps it in memory only."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return is_in_memory(descriptor)
    finally:
        os.close(descriptor)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
