"""The blocking file system: the public methods, one line of work each.

Owns: the names, signatures and promises of the public contract. Never: holds logic that `operations`, `reading`,
`writing`, `listing` or `loading` could hold; the asynchronous twin shares those.

A `FileSystem` may be used from many threads, and goes on in a forked child.
"""

import builtins
import io
import os
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO, Any, Literal, Self, overload

from isotach.base.paths import normalize
from isotach.base.types import (
    BlockLocation,
    FileInfo,
    MountInfo,
    ReadBuffer,
    ReadType,
    TtlAction,
    WorkerInfo,
    WriteType,
)
from isotach.client import members, operations, policies
from isotach.client.jobs import Jobs, submit_load
from isotach.client.link import Link
from isotach.client.linking import Linking
from isotach.client.listing import list_directory
from isotach.client.modes import parse_mode
from isotach.client.operations import PathLike
from isotach.client.policies import ChangeCounts, FreeCounts
from isotach.client.reading.files import open_for_reading
from isotach.client.reading.whole import read_range, read_view
from isotach.client.records import ClusterStatus, LeavingWorker, LostInfo
from isotach.client.routing import block_locations
from isotach.client.writing.creating import write_options
from isotach.client.writing.files import WriteFile, WriteTextFile
from isotach.client.writing.version_writer import VersionWriter
from isotach.client.writing.whole import write_file


class FileSystem(Linking):
    """The namespace, as seen by one user. Made by `isotach.connect`; a context manager that closes its connections.

    Paths are absolute. Errors are Python's own (FileNotFoundError, PermissionError, OSError with errno, ...) or
    subclasses of `isotach.IsotachError`; UnavailableError when master or worker cannot be reached in time.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._run = link.run

    # --- looking ---

    def stat(
        self, path: PathLike, *, metadata_sync_interval: float | None = None, follow_symlinks: bool = True
    ) -> FileInfo:
        """What is known of a path. `metadata_sync_interval` (seconds; 0: ask the under storage now, -1: do not ask)
        overrides that of the mount for this call. `follow_symlinks` False: of a symbolic link itself."""
        interval_s = self._interval(metadata_sync_interval)
        if self._link.direct is not None:
            raw = normalize(path)
            known = self._link.direct.stat(raw, operations.interval_ms(interval_s))
            if known is not None:
                return FileInfo(os.fsdecode(raw), known.inode, known.ufs_uri, known.cache)
        return self._run(operations.stat(path, interval_s, follow_symlinks))

    def exists(self, path: PathLike, *, metadata_sync_interval: float | None = None) -> bool:
        """Whether there is such a file or directory."""
        try:
            self.stat(path, metadata_sync_interval=metadata_sync_interval)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def list(
        self, path: PathLike, recursive: bool = False, *, metadata_sync_interval: float | None = None
    ) -> Iterator[FileInfo]:
        """The entries of a directory in byte order of their names, lazily, in flat memory; a file lists itself.
        `recursive` goes down depth first, each directory before what it holds. `ufs_path` of an entry is the parent's
        and the name: for a nested mount ask `stat`."""
        return list_directory(self._link, normalize(path), recursive, self._interval(metadata_sync_interval))

    def locations(self, path: PathLike) -> builtins.list[BlockLocation]:
        """Which workers hold which blocks of a file. Raises IsADirectoryError for a directory: it has no blocks."""
        info = self.stat(path)
        reply = self._run(operations.locations(info))
        holders = reply.holders[0] if reply.holders else []
        return block_locations(info.inode, holders, self._run(operations.worker_rows()))

    # --- reading and writing ---

    @overload
    def open(
        self,
        path: PathLike,
        mode: Literal["rb", "br"] = "rb",
        read_type: ReadType | str | None = None,
        write_type: WriteType | str | None = None,
        block_size: int | None = None,
        ttl: float | None = None,
    ) -> io.BufferedReader: ...

    @overload
    def open(
        self,
        path: PathLike,
        mode: Literal["wb", "bw", "xb", "bx"],
        read_type: ReadType | str | None = None,
        write_type: WriteType | str | None = None,
        block_size: int | None = None,
        ttl: float | None = None,
        *,
        ttl_action: str = TtlAction.DELETE,
    ) -> WriteFile: ...

    @overload
    def open(
        self,
        path: PathLike,
        mode: Literal["r", "rt", "w", "wt", "x", "xt"],
        read_type: ReadType | str | None = None,
        write_type: WriteType | str | None = None,
        block_size: int | None = None,
        ttl: float | None = None,
        *,
        ttl_action: str = TtlAction.DELETE,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...

    @overload
    def open(
        self,
        path: PathLike,
        mode: str,
        read_type: ReadType | str | None = None,
        write_type: WriteType | str | None = None,
        block_size: int | None = None,
        ttl: float | None = None,
        *,
        ttl_action: str = TtlAction.DELETE,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]: ...

    def open(
        self,
        path: PathLike,
        mode: str = "rb",
        read_type: ReadType | str | None = None,
        write_type: WriteType | str | None = None,
        block_size: int | None = None,
        ttl: float | None = None,
        *,
        ttl_action: str = TtlAction.DELETE,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """A standard Python file object: binary for rb, wb, xb; text for r, w, x (UTF-8 unless `encoding` says other).

        Files are immutable once complete: there is no appending; writing makes a new version, visible (whole) when
        `close` returns. An exception inside `with`, or losing the file without closing, leaves nothing behind.
        `block_size` is bytes, `ttl` seconds.
        """
        wanted, raw = parse_mode(mode), normalize(path)
        encoding = encoding or "utf-8" if wanted.text else None
        if not wanted.writes:
            binary = open_for_reading(self._link, raw, self._read_type(read_type))
            return io.TextIOWrapper(binary, encoding, errors, newline) if wanted.text else binary
        options = write_options(
            self._link.settings,
            write_type=write_type,
            block_size=block_size,
            ttl_s=ttl,
            ttl_action=ttl_action,
            overwrite=not wanted.exclusive,
            mode=None,
        )
        file = WriteFile(VersionWriter(self._link, raw, options), os.fsdecode(raw))
        return WriteTextFile(file, encoding, errors, newline) if wanted.text else file

    def read(
        self,
        path: PathLike,
        offset: int = 0,
        length: int | None = None,
        *,
        read_type: ReadType | str | None = None,
    ) -> bytes:
        """`length` bytes (None: to the end) from `offset`; fewer where the file ends."""
        return read_range(self._link, normalize(path), offset, length, self._read_type(read_type))

    def write(
        self,
        path: PathLike,
        data: ReadBuffer,
        overwrite: bool = True,
        write_type: WriteType | str | None = None,
        *,
        block_size: int | None = None,
        ttl: float | None = None,
        ttl_action: str = TtlAction.DELETE,
        mode: int | None = None,
        memory_only: bool = False,
        replication: tuple[int, int] | None = None,
        placement: str | None = None,
    ) -> int:
        """Writes a whole file, making missing parent directories; the number of bytes. Raises FileExistsError when it
        exists and `overwrite` is False. `memory_only`: no byte of it may reach a disk. `replication`: how many workers
        shall hold it (least, most; -1: no limit). `placement`: a location policy (`MOST_AVAILABLE`,
        `SPECIFIC_HOST:name`) in place of `client.write_location_policy`; the policy of the path goes before it."""
        options = write_options(
            self._link.settings,
            write_type=write_type,
            block_size=block_size,
            ttl_s=ttl,
            ttl_action=ttl_action,
            overwrite=overwrite,
            mode=mode,
            memory_only=memory_only,
            replication=replication,
            placement=placement,
        )
        with memoryview(data) as view, view.cast("B") as raw:
            write_file(self._link, normalize(path), raw, options)
            return len(raw)

    def view(self, path: PathLike, *, read_type: ReadType | str | None = None) -> AbstractContextManager[memoryview]:
        """A read-only memoryview of the whole file: zero-copy from the cache of a worker on this machine. Slices and
        arrays made from it stay valid after the block, and keep the memory."""
        return read_view(self._link, normalize(path), self._read_type(read_type))

    def touch(self, path: PathLike) -> None:
        """Makes an empty file, or sets the times of an existing path to now."""
        try:
            self._run(operations.touch(path))
        except FileNotFoundError:
            try:
                self.write(path, b"", overwrite=False)
            except FileExistsError:
                pass  # somebody else made it just now

    # --- changing the namespace ---

    def mkdir(self, path: PathLike, parents: bool = False, exist_ok: bool = False, mode: int | None = None) -> None:
        """Makes a directory. Raises FileExistsError unless `exist_ok`, FileNotFoundError unless `parents`."""
        self._run(operations.mkdir(path, parents, exist_ok, mode))

    def rename(self, src: PathLike, dst: PathLike, replace: bool = True, *, exchange: bool = False) -> None:
        """Moves a file or directory, atomically; replaces a file (or an empty directory) as POSIX does. Raises
        FileExistsError when `dst` exists and `replace` is False, OSError (EXDEV) across mounts. `exchange`: both exist
        and change places."""
        self._run(operations.rename(src, dst, replace, exchange))

    def remove(self, path: PathLike, recursive: bool = False) -> None:
        """Removes a file, an empty directory, or (`recursive`) a whole tree, here and in the under storage."""
        self._run(operations.remove(path, recursive))

    def chmod(self, path: PathLike, mode: int, recursive: bool = False) -> None:
        """Sets the permission bits."""
        self._run(operations.chmod(path, mode, recursive))

    def chown(
        self, path: PathLike, owner: str | None = None, group: str | None = None, recursive: bool = False
    ) -> None:
        """Sets owner, group, or both, by name."""
        self._run(operations.chown(path, owner, group, recursive))

    def utime(self, path: PathLike, atime: float | None = None, mtime: float | None = None) -> None:
        """Sets times, seconds since the epoch; None leaves one as it is."""
        self._run(operations.utime(path, atime, mtime))

    def set_ttl(
        self,
        path: PathLike,
        seconds: float | None,
        action: str = TtlAction.DELETE,
        *,
        recursive: bool = False,
        inherit: bool = False,
    ) -> ChangeCounts:
        """Gives a time to live from now: then the path, with all below it, goes, or (`FREE`) its cached pages do, what
        is not persisted being persisted first. None ends it. `inherit`: not the directory but each file that is made
        or found in it from now on gets it (`recursive`: and each that is there)."""
        return self._run(policies.set_ttl(path, seconds, action, recursive=recursive, inherit=inherit))

    def pin(self, path: PathLike, recursive: bool = True, tier: str | None = None) -> ChangeCounts:
        """Keeps a file, or the files in a directory (those to come as well), from being evicted; in one tier if an
        alias is given."""
        return self._run(policies.set_pinned(path, True, recursive, tier))

    def unpin(self, path: PathLike, recursive: bool = True) -> ChangeCounts:
        """Undoes `pin`."""
        return self._run(policies.set_pinned(path, False, recursive, None))

    def set_replication(
        self, path: PathLike, min: int | None = None, max: int | None = None, recursive: bool = False
    ) -> ChangeCounts:
        """How many workers hold a file at least, and at most (-1: no limit); of a directory: what is made in it begins
        with. None leaves as it is."""
        return self._run(policies.set_replication(path, min, max, recursive))

    def set_policy(
        self,
        path: PathLike,
        *,
        tier: str | None = None,
        memory_only: bool | None = None,
        placement: str | None = None,
        read_placement: str | None = None,
        recursive: bool = False,
    ) -> ChangeCounts:
        """Rules of a file, or of what is made in a directory from now on. None leaves as it is, an empty text takes a
        rule away. `memory_only`: no byte of the content may reach a disk; refused for files that have bytes already.
        `stat(path).policy` shows them."""
        operation = policies.set_policy(
            path,
            tier=tier,
            memory_only=memory_only,
            placement=placement,
            read_placement=read_placement,
            recursive=recursive,
        )
        return self._run(operation)

    def get_xattr(self, path: PathLike, name: str) -> bytes:
        """An extended attribute. Raises OSError (ENODATA) when there is none of that name."""
        return operations.xattr_of(self.stat(path), name)

    def list_xattrs(self, path: PathLike) -> builtins.list[str]:
        """Names of the extended attributes, sorted."""
        return sorted(self.stat(path).xattrs)

    def set_xattr(self, path: PathLike, name: str, value: bytes) -> None:
        """Sets an extended attribute."""
        self._run(operations.set_xattr(path, name, value))

    def remove_xattr(self, path: PathLike, name: str) -> None:
        """Removes an extended attribute."""
        self._run(operations.remove_xattr(path, name))

    # --- cache and under storage ---

    def free(self, path: PathLike, recursive: bool = True, force: bool = False) -> int:
        """Drops cached pages of persisted files; the number of files. Nothing is lost: they are read anew. `force`:
        also of pinned ones, which ends the pin."""
        return self.free_counts(path, recursive, force).freed

    def free_counts(self, path: PathLike, recursive: bool = True, force: bool = False) -> FreeCounts:
        """`free`, with the numbers of files that were left, and why."""
        return self._run(policies.free(path, recursive, force))

    def load(
        self,
        path: PathLike,
        recursive: bool = True,
        on_progress: Callable[[FileInfo], None] | None = None,
        *,
        verify: bool = False,
        bandwidth: int = 0,
        metadata_only: bool = False,
        replicas: int = 1,
    ) -> int:
        """Brings a file, or the files below a directory, into the cache and waits; the number of files. All workers
        take part; the job (`jobs`) goes on if this process ends. `on_progress(info)` is called after each file,
        `bandwidth` is bytes per second, `verify` compares with the under storage. Raises JobFailedError when anything
        failed or did not fit."""
        submitted = submit_load(
            path,
            recursive=recursive,
            verify=verify,
            bandwidth=bandwidth,
            metadata_only=metadata_only,
            replicas=replicas,
            follow=on_progress is not None,
        )
        job = self.jobs.follow(submitted, on_progress)
        job.check()
        return job.files_done

    @property
    def jobs(self) -> Jobs:
        """Loads and persistences that the master carries on with by itself."""
        return Jobs(self._run)

    def persist(self, path: PathLike, wait: bool = True) -> int:
        """Has a file, or the files below a directory, written to the under storage; the number of files. With `wait`
        it returns when they are there."""
        return self._run(operations.persist(path, wait))

    # --- mounts and the cluster ---

    def mount(
        self,
        path: PathLike,
        uri: str,
        options: Mapping[str, object] | None = None,
        read_only: bool = False,
        *,
        metadata_sync_interval: float | None = None,
    ) -> None:
        """Attaches an under storage (`s3://bucket/prefix`, `/folder`, ...) at a path. It is checked first: a wrong URI,
        a missing bucket, refused credentials or a dead endpoint are told within 10 s."""
        self._run(operations.mount(path, uri, options, read_only, metadata_sync_interval))

    def unmount(self, path: PathLike) -> None:
        """Detaches an under storage; its content stays where it is."""
        self._run(operations.unmount(path))

    def mounts(self) -> builtins.list[MountInfo]:
        """The mount table, secrets masked."""
        return self._run(operations.mounts())

    def workers(self) -> builtins.list[WorkerInfo]:
        """The workers that the master knows, live or lost."""
        return [operations.worker_info(row) for row in self._run(operations.worker_rows())]

    def decommission(self, worker: str, *, cancel: bool = False) -> builtins.list[LeavingWorker]:
        """Sends a worker (its id) or all workers of a host away, or (`cancel`) has them stay. Returns at once, with how
        far they are; `leaving` tells later. Reads from them go on; when one is DECOMMISSIONED it may be stopped and
        nothing is lost. For superusers."""
        return self._run(members.decommission(worker, "CANCEL" if cancel else "START"))

    def leaving(self, worker: str) -> builtins.list[LeavingWorker]:
        """How far a worker that was sent away is, or those of a host."""
        return self._run(members.decommission(worker, "ASK"))

    def lost(self, path: PathLike = "/", recursive: bool = True) -> Iterator[LostInfo]:
        """The files at or below a path (`recursive` False: directly in it) whose last copy went away before they were
        persisted, lazily. They are found again when a worker that has them returns."""
        after = 0
        while after >= 0:
            page, after = self._run(members.lost_page(path, recursive, after))
            yield from page

    def status(self) -> ClusterStatus:
        """The state of master and workers."""
        return self._run(operations.status())

    # --- the connection ---

    @property
    def address(self) -> str:
        """Where the master is reached."""
        return str(self._link.address)

    @property
    def user(self) -> str:
        """Who the master takes us for."""
        return self._link.welcome.user

    def close(self) -> None:
        """Closes all connections. Open files with a descriptor of their own stay readable."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FileSystem({self.address!r}, user={self.user!r})"

    def _interval(self, given: float | None) -> float | None:
        return self._link.settings.metadata_sync_interval if given is None else given

    def _read_type(self, given: str | None) -> ReadType:
        return self._link.settings.read_type if given is None else operations.read_type(given)
