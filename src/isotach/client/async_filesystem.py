"""The asynchronous file system: the names of the blocking one, awaitable.

Owns: the asynchronous methods. Metadata calls go natively over the event loop's own connections; file data goes through
a bounded pool of threads over the blocking machinery, which is what moves bytes fastest. Never: repeats logic of
`operations`.

An await on file data that is cancelled leaves its thread to finish alone.
"""

import asyncio
import builtins
import functools
import types
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, Self, TypeVar

from isotach.base.limits import CLIENT_DATA_THREADS
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
from isotach.client.async_file import AsyncFile, Opening
from isotach.client.async_link import AsyncLink
from isotach.client.filesystem import FileSystem
from isotach.client.jobs import AsyncJobs
from isotach.client.link import Link
from isotach.client.linking import AsyncLinking
from isotach.client.operations import PathLike
from isotach.client.policies import ChangeCounts, FreeCounts
from isotach.client.records import ClusterStatus, LeavingWorker, LostInfo
from isotach.client.routing import block_locations
from isotach.client.writing.creating import create, write_options
from isotach.conf import ClientSettings
from isotach.net.address import Address, host_key

P = ParamSpec("P")
R = TypeVar("R")


class AsyncFileSystem(AsyncLinking):
    """The namespace, as seen by one user, for one event loop. Made by `isotach.connect_async`; an asynchronous context
    manager. Arguments, results and errors are those of `FileSystem`."""

    def __init__(self, link: AsyncLink, settings: ClientSettings, address: Address, user: str | None) -> None:
        self._link = link
        self._run = link.run
        self._settings = settings
        self._address = address
        self._user = user
        self._host_key = settings.host_key or host_key()
        self._threads = ThreadPoolExecutor(CLIENT_DATA_THREADS, thread_name_prefix="isotach-data")
        self._blocking: asyncio.Future[FileSystem] | None = None

    # --- looking ---

    async def stat(
        self, path: PathLike, *, metadata_sync_interval: float | None = None, follow_symlinks: bool = True
    ) -> FileInfo:
        interval_s = self._interval(metadata_sync_interval)
        return await self._run(operations.stat(path, interval_s, follow_symlinks))

    async def exists(self, path: PathLike, *, metadata_sync_interval: float | None = None) -> bool:
        try:
            await self.stat(path, metadata_sync_interval=metadata_sync_interval)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def list(
        self, path: PathLike, recursive: bool = False, *, metadata_sync_interval: float | None = None
    ) -> "AsyncListing":
        """`async for info in fs.list(path)` goes through the entries lazily; `await fs.list(path)` gives them all."""
        return AsyncListing(self._link, normalize(path), recursive, self._interval(metadata_sync_interval))

    async def locations(self, path: PathLike) -> builtins.list[BlockLocation]:
        info = await self.stat(path)
        reply = await self._run(operations.locations(info))
        holders = reply.holders[0] if reply.holders else []
        return block_locations(info.inode, holders, await self._run(operations.worker_rows()))

    # --- reading and writing ---

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
    ) -> Opening:
        """`async with fs.open(path) as file`, or `file = await fs.open(path)`; its methods are awaited."""

        async def opened() -> AsyncFile:
            blocking = await self._blocking_twin()
            file = await self._in_thread(
                blocking.open, path, mode, read_type, write_type, block_size, ttl,
                ttl_action=ttl_action, encoding=encoding, errors=errors, newline=newline,
            )  # fmt: skip
            return AsyncFile(file, self._threads)

        return Opening(opened)

    async def read(
        self,
        path: PathLike,
        offset: int = 0,
        length: int | None = None,
        *,
        read_type: ReadType | str | None = None,
    ) -> bytes:
        blocking = await self._blocking_twin()
        return await self._in_thread(blocking.read, path, offset, length, read_type=read_type)

    async def write(
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
        plain = not memory_only and replication is None and placement is None
        if (
            not len(data)
            and plain
            and await self._write_empty(path, overwrite, write_type, block_size, ttl, ttl_action, mode)
        ):
            return 0
        blocking = await self._blocking_twin()
        return await self._in_thread(
            blocking.write, path, data, overwrite, write_type,
            block_size=block_size, ttl=ttl, ttl_action=ttl_action, mode=mode, memory_only=memory_only,
            replication=replication, placement=placement,
        )  # fmt: skip

    @asynccontextmanager
    async def view(self, path: PathLike, *, read_type: ReadType | str | None = None) -> AsyncIterator[memoryview]:
        blocking = await self._blocking_twin()
        manager = blocking.view(path, read_type=read_type)
        view = await self._in_thread(manager.__enter__)
        try:
            yield view
        finally:
            manager.__exit__(None, None, None)

    async def touch(self, path: PathLike) -> None:
        try:
            await self._run(operations.touch(path))
        except FileNotFoundError:
            try:
                await self.write(path, b"", overwrite=False)
            except FileExistsError:
                pass  # somebody else made it just now

    # --- changing the namespace ---

    async def mkdir(
        self, path: PathLike, parents: bool = False, exist_ok: bool = False, mode: int | None = None
    ) -> None:
        await self._run(operations.mkdir(path, parents, exist_ok, mode))

    async def rename(self, src: PathLike, dst: PathLike, replace: bool = True, *, exchange: bool = False) -> None:
        await self._run(operations.rename(src, dst, replace, exchange))

    async def remove(self, path: PathLike, recursive: bool = False) -> None:
        await self._run(operations.remove(path, recursive))

    async def chmod(self, path: PathLike, mode: int, recursive: bool = False) -> None:
        await self._run(operations.chmod(path, mode, recursive))

    async def chown(
        self, path: PathLike, owner: str | None = None, group: str | None = None, recursive: bool = False
    ) -> None:
        await self._run(operations.chown(path, owner, group, recursive))

    async def utime(self, path: PathLike, atime: float | None = None, mtime: float | None = None) -> None:
        await self._run(operations.utime(path, atime, mtime))

    async def set_ttl(
        self,
        path: PathLike,
        seconds: float | None,
        action: str = TtlAction.DELETE,
        *,
        recursive: bool = False,
        inherit: bool = False,
    ) -> ChangeCounts:
        return await self._run(policies.set_ttl(path, seconds, action, recursive=recursive, inherit=inherit))

    async def pin(self, path: PathLike, recursive: bool = True, tier: str | None = None) -> ChangeCounts:
        return await self._run(policies.set_pinned(path, True, recursive, tier))

    async def unpin(self, path: PathLike, recursive: bool = True) -> ChangeCounts:
        return await self._run(policies.set_pinned(path, False, recursive, None))

    async def set_replication(
        self, path: PathLike, min: int | None = None, max: int | None = None, recursive: bool = False
    ) -> ChangeCounts:
        return await self._run(policies.set_replication(path, min, max, recursive))

    async def set_policy(
        self,
        path: PathLike,
        *,
        tier: str | None = None,
        memory_only: bool | None = None,
        placement: str | None = None,
        read_placement: str | None = None,
        recursive: bool = False,
    ) -> ChangeCounts:
        operation = policies.set_policy(
            path,
            tier=tier,
            memory_only=memory_only,
            placement=placement,
            read_placement=read_placement,
            recursive=recursive,
        )
        return await self._run(operation)

    async def get_xattr(self, path: PathLike, name: str) -> bytes:
        return operations.xattr_of(await self.stat(path), name)

    async def list_xattrs(self, path: PathLike) -> builtins.list[str]:
        return sorted((await self.stat(path)).xattrs)

    async def set_xattr(self, path: PathLike, name: str, value: bytes) -> None:
        await self._run(operations.set_xattr(path, name, value))

    async def remove_xattr(self, path: PathLike, name: str) -> None:
        await self._run(operations.remove_xattr(path, name))

    # --- cache and under storage ---

    async def free(self, path: PathLike, recursive: bool = True, force: bool = False) -> int:
        return (await self.free_counts(path, recursive, force)).freed

    async def free_counts(self, path: PathLike, recursive: bool = True, force: bool = False) -> FreeCounts:
        return await self._run(policies.free(path, recursive, force))

    async def load(
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
        """`on_progress` is called in another thread."""
        blocking = await self._blocking_twin()
        return await self._in_thread(
            blocking.load, path, recursive, on_progress,
            verify=verify, bandwidth=bandwidth, metadata_only=metadata_only, replicas=replicas,
        )  # fmt: skip

    @property
    def jobs(self) -> AsyncJobs:
        """Loads and persistences that the master carries on with by itself."""
        return AsyncJobs(self._run)

    async def persist(self, path: PathLike, wait: bool = True) -> int:
        return await self._run(operations.persist(path, wait))

    # --- mounts and the cluster ---

    async def mount(
        self,
        path: PathLike,
        uri: str,
        options: Mapping[str, object] | None = None,
        read_only: bool = False,
        *,
        metadata_sync_interval: float | None = None,
    ) -> None:
        await self._run(operations.mount(path, uri, options, read_only, metadata_sync_interval))

    async def unmount(self, path: PathLike) -> None:
        await self._run(operations.unmount(path))

    async def mounts(self) -> builtins.list[MountInfo]:
        return await self._run(operations.mounts())

    async def workers(self) -> builtins.list[WorkerInfo]:
        return [operations.worker_info(row) for row in await self._run(operations.worker_rows())]

    async def decommission(self, worker: str, *, cancel: bool = False) -> builtins.list[LeavingWorker]:
        return await self._run(members.decommission(worker, "CANCEL" if cancel else "START"))

    async def leaving(self, worker: str) -> builtins.list[LeavingWorker]:
        return await self._run(members.decommission(worker, "ASK"))

    async def lost(self, path: PathLike = "/", recursive: bool = True) -> builtins.list[LostInfo]:
        found: builtins.list[LostInfo] = []
        after = 0
        while after >= 0:
            page, after = await self._run(members.lost_page(path, recursive, after))
            found += page
        return found

    async def status(self) -> ClusterStatus:
        return await self._run(operations.status())

    # --- the connection ---

    @property
    def address(self) -> str:
        """Where the master is reached."""
        return str(self._link.address)

    async def close(self) -> None:
        """Closes all connections, and waits for the threads that are busy."""
        await self._link.close()
        if self._blocking is not None:
            (await self._blocking).close()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncFileSystem({self.address!r})"

    # --- inside ---

    def _interval(self, given: float | None) -> float | None:
        return self._settings.metadata_sync_interval if given is None else given

    async def _blocking_twin(self) -> FileSystem:
        """The blocking file system for data; connected when first needed, in a thread, once."""
        if self._blocking is None:

            def connected() -> FileSystem:
                return FileSystem(Link(self._settings, self._address, self._user))

            self._blocking = asyncio.get_running_loop().run_in_executor(self._threads, connected)
        twin = self._blocking
        try:
            return await asyncio.shield(twin)
        except Exception:
            if self._blocking is twin:
                self._blocking = None  # the next call tries again
            raise

    async def _in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _write_empty(
        self,
        path: PathLike,
        overwrite: bool,
        write_type: str | None,
        block_size: int | None,
        ttl: float | None,
        ttl_action: str,
        mode: int | None,
    ) -> bool:
        """Writes a file without bytes over the loop alone, where no worker is needed for it; whether that was so."""
        options = write_options(
            self._settings,
            write_type=write_type,
            block_size=block_size,
            ttl_s=ttl,
            ttl_action=ttl_action,
            overwrite=overwrite,
            mode=mode,
        )
        if options.write_type.goes_through:
            return False
        raw = normalize(path)
        created = await self._run(create(raw, options, self._settings, self._host_key))
        effective = WriteType(created.write_type)
        if effective.goes_through:
            await self._run(operations.abort(created.grant))
            return False
        await self._run(operations.complete_empty(created.grant, effective is WriteType.ASYNC_THROUGH))
        return True


class AsyncListing:
    """Entries of a directory: iterate over it, or await it for a list."""

    def __init__(self, link: AsyncLink, path: bytes, recursive: bool, sync_interval_s: float | None) -> None:
        self._link = link
        self._path = path
        self._recursive = recursive
        self._sync_interval_s = sync_interval_s

    def __aiter__(self) -> AsyncIterator[FileInfo]:
        return self._walk()

    def __await__(self) -> Generator[object, None, list[FileInfo]]:
        return self._all().__await__()

    async def _all(self) -> list[FileInfo]:
        return [info async for info in self._walk()]

    async def _walk(self) -> AsyncIterator[FileInfo]:
        stack = [self._entries(self._path)]
        while stack:
            try:
                info = await anext(stack[-1], None)
            except (FileNotFoundError, NotADirectoryError):
                if len(stack) == 1:
                    raise
                info = None  # it went away while we walked
            if info is None:
                stack.pop()
                continue
            yield info
            if self._recursive and info.is_dir:
                stack.append(self._entries(normalize(info.path)))

    async def _entries(self, path: bytes) -> AsyncIterator[FileInfo]:
        after: bytes | None = b""
        sync_interval_s = self._sync_interval_s
        while after is not None:
            page = await self._link.run(operations.list_page(path, after, sync_interval_s))
            for info in page.infos:
                yield info
            after, sync_interval_s = page.next_after, -1.0
