"""The LMDB store: the only module that imports lmdb.

Owns: opening an environment in a folder, the exclusive-writer guard, snapshots, durable commits, and the translation
of LMDB's errors. Never: knows what keys mean.

Any number of processes may open the same folder with `readonly=True` beside the one writer. Read transactions are tied
to no thread, writes must come from one thread at a time. The map is address space, not memory or disk: it is chosen
large, because it can only grow while no snapshot is open in this process.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import lmdb

from isotach.base.errors import AlreadyRunningError, DataCorruptionError
from isotach.base.failpoints import fail_at
from isotach.base.limits import GIB, KV_COMMIT_SLACK_BYTES, KV_READERS_MAX, KV_SPARE_TRANSACTIONS
from isotach.kv.interface import FORMAT_KEY, Batch, check_format, format_stamp

#: The environment is opened without `buffers`: what comes back is bytes.
_Get = Callable[[bytes], bytes | None]


class LmdbSnapshot:
    """One read transaction. `get` is LMDB's own, bound once."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment: Final = environment
        self._begin(_begin_read(environment))

    def _begin(self, transaction: lmdb.Transaction) -> None:
        self._transaction = transaction
        self.get = cast(_Get, transaction.get)

    def number(self) -> int:
        """Of the commit that is seen."""
        return int(self._transaction.id())

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._transaction.cursor() as cursor:
            if not cursor.set_range(start):
                return
            for key, value in cast(Iterator[tuple[bytes, bytes]], cursor.iternext()):
                if key >= stop:
                    return
                yield key, value

    def renew(self) -> int:
        """Steps to the newest commit (about 1 us: LMDB keeps the reader slot). Returns its transaction id."""
        self._transaction.abort()
        self._begin(_begin_read(self._environment))
        return self.number()

    def close(self) -> None:
        self._transaction.abort()


class LmdbStore:
    """One environment.

    `sync` False leaves writing back to the kernel: a crash of the machine may lose or break the store, a crash of the
    process loses nothing (soft state only). `map_bytes` bounds the store's size.
    """

    def __init__(
        self,
        path: Path,
        *,
        map_bytes: int = 256 * GIB,
        sync: bool = True,
        readonly: bool = False,
        format_version: int = 1,
    ) -> None:
        self.path: Final = Path(path)
        self._readonly: Final = readonly
        self._map_bytes = map_bytes
        self._guard: int | None = None
        self._open_snapshots = 0
        self._counting: Final = threading.Lock()
        if not readonly:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._guard = _own(self.path)
        try:
            self._environment = _open(self.path, map_bytes, sync, readonly)
            self._environment.reader_check()
            self._stamp(format_version)
        except BaseException:
            self._release_guard()
            raise

    def _stamp(self, format_version: int) -> None:
        with self.snapshot() as snapshot:
            missing = check_format(snapshot.get(FORMAT_KEY), format_version, str(self.path))
        if missing and not self._readonly:
            self.commit([(FORMAT_KEY, format_stamp(format_version))])

    @contextmanager
    def snapshot(self) -> Iterator[LmdbSnapshot]:
        snapshot = self.renewable_snapshot()
        try:
            yield snapshot
        finally:
            snapshot.close()

    def renewable_snapshot(self) -> "_CountedSnapshot":
        return _CountedSnapshot(self)

    def commit(self, batch: Batch) -> None:
        """See `KeyValueStore.commit`. Keys are applied in byte order, for locality. Grows a full map where it may."""
        fail_at("before_commit")
        while True:
            try:
                self._write(batch)
                break
            except lmdb.MapFullError:
                self._grow()
        fail_at("after_commit")

    def _write(self, batch: Batch) -> None:
        puts = sorted((key, value) for key, value in batch if value is not None)
        deletes = [key for key, value in batch if value is None]
        try:
            with self._environment.begin(write=True) as transaction:
                for key in deletes:
                    transaction.delete(key)
                if puts:
                    with transaction.cursor() as cursor:
                        cursor.putmulti(puts)
        except lmdb.MapFullError:
            raise
        except lmdb.Error as error:
            raise _translated(error, self.path, sum(len(key) + len(value) for key, value in puts)) from error

    def _grow(self) -> None:
        """Doubles the map, unless a snapshot of this process stands in it."""
        with self._counting:
            if self._open_snapshots:
                raise OSError(errno.ENOSPC, self._full_text(), str(self.path))
            self._map_bytes *= 2
            self._environment.set_mapsize(self._map_bytes)

    def _full_text(self) -> str:
        return f"the store is full at {self._map_bytes >> 20} MiB: remove entries, or restart it with a larger map"

    def clear_stale_readers(self) -> int:
        """Frees the reader slots of processes that died; returns how many. To be called now and then."""
        return int(self._environment.reader_check())

    def is_being_read(self) -> bool:
        """Whether a snapshot of this process is open: closing the store would pull it away."""
        return self._open_snapshots > 0

    def size_bytes(self) -> int:
        info, stat = self._environment.info(), self._environment.stat()
        return (int(info["last_pgno"]) + 1) * int(stat["psize"])

    def close(self) -> None:
        self._environment.close()
        self._release_guard()

    def _release_guard(self) -> None:
        if self._guard is not None:
            os.close(self._guard)
            self._guard = None

    def _count(self, step: int) -> lmdb.Environment:
        with self._counting:
            self._open_snapshots += step
        return self._environment


class _CountedSnapshot(LmdbSnapshot):
    """A snapshot that its store knows of, so that the map is never moved under it."""

    def __init__(self, store: LmdbStore) -> None:
        self._store: Final = store
        self._closed = False
        environment = store._count(1)
        try:
            super().__init__(environment)
        except BaseException:
            store._count(-1)
            raise

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            super().close()
            self._store._count(-1)


def _open(path: Path, map_bytes: int, sync: bool, readonly: bool) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(path),
            map_size=map_bytes,
            sync=sync,
            metasync=sync,
            readonly=readonly,
            create=not readonly,
            max_readers=KV_READERS_MAX,
            max_spare_txns=KV_SPARE_TRANSACTIONS,
        )
    except lmdb.Error as error:
        raise _translated(error, path) from error


def _begin_read(environment: lmdb.Environment) -> lmdb.Transaction:
    try:
        return environment.begin()
    except lmdb.MapResizedError:  # the writer's process grew the map: follow it
        environment.set_mapsize(0)
        return environment.begin()
    except lmdb.ReadersFullError:
        environment.reader_check()
        return environment.begin()


def _own(path: Path) -> int:
    """Takes the writer's lock of the folder; the kernel drops it when the process ends, however it ends."""
    guard = os.open(path / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(guard, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(guard)
        text = f"{path} is in use by process {owner}: stop it first, or give another folder"
        raise AlreadyRunningError(text) from None
    os.ftruncate(guard, 0)
    os.pwrite(guard, f"{os.getpid()}\n".encode(), 0)
    return guard


def _translated(error: lmdb.Error, path: Path, wanted_bytes: int = 0) -> Exception:
    """LMDB's error in the words of the layers above. A write cut short by a full disk comes from LMDB as EIO."""
    cut_short = os.strerror(errno.EIO) in str(error) and _is_nearly_full(path, wanted_bytes)
    if isinstance(error, lmdb.DiskError) or cut_short:
        return OSError(errno.ENOSPC, "the disk of the store is full: make room on it", str(path))
    if isinstance(error, lmdb.ReadonlyError):
        return OSError(errno.EROFS, "the store cannot be written: it was opened read-only", str(path))
    if isinstance(error, lmdb.CorruptedError | lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.PageNotFoundError):
        return DataCorruptionError(errno.EIO, f"the store is damaged ({error}): restore it from a backup", str(path))
    text = str(error)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.EACCES, errno.EROFS, errno.EIO, errno.EFBIG):
        if os.strerror(number) in text:
            return OSError(number, f"the store failed: {text}", str(path))
    return OSError(errno.EIO, f"the store failed: {text}", str(path))


def _is_nearly_full(path: Path, wanted_bytes: int) -> bool:
    """Whether the disk may have had no room: pages on the way from the root to each row are written anew."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize < KV_COMMIT_SLACK_BYTES + 4 * wanted_bytes
