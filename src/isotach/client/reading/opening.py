"""Opening a file for reading: look the path up, choose a worker, show it the grant, take what it gives.

Owns: the choice among workers, what a stale or expired grant leads to, and `Opened`. Never: reads bytes.
"""

import errno
import os
from collections.abc import Sequence

from isotach.base.errors import (
    AuthenticationError,
    DeadlineExceededError,
    IsotachError,
    StaleVersionError,
    UnavailableError,
    os_error,
)
from isotach.base.limits import OPEN_DEADLINE_S, WORKERS_AWAITED_S
from isotach.base.types import CacheState, Inode, ReadType, WorkerId
from isotach.client import operations
from isotach.client.link import Link
from isotach.client.patience import Patience
from isotach.client.routing import block_count_of, is_spread
from isotach.net.blocking_channel import BlockingChannel
from isotach.net.blocking_client import BlockingConnection
from isotach.wire.messages import CLOSE_HANDLE, OPEN, HandleRequest, OpenRequest, StatReply, WorkerRow


class Opened:
    """A version open at one worker.

    `handle` 0: `fd` (owned by whoever takes it) is the whole file, and nothing else is held. Otherwise `connection` is
    leased and the handle lives on it, until `close`; `fd` is -1 when none was passed.
    """

    __slots__ = ("_channel", "connection", "fd", "handle", "present_bytes")

    def __init__(
        self,
        fd: int,
        handle: int,
        present_bytes: int,
        channel: BlockingChannel | None = None,
        connection: BlockingConnection | None = None,
    ) -> None:
        self.fd = fd
        self.handle = handle
        self.present_bytes = present_bytes
        self._channel = channel
        self.connection = connection

    def close(self) -> None:
        """Closes handle and descriptor and gives the connection back; never raises."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        connection, channel, self.connection = self.connection, self._channel, None
        if connection is None or channel is None:
            return
        try:
            if connection.is_usable and connection.is_idle:
                connection.call(CLOSE_HANDLE, HandleRequest(self.handle))
        except (OSError, IsotachError):
            pass  # the connection died, and the handle with it
        finally:
            channel.give_back(connection)


def open_file(link: Link, path: bytes, read_type: ReadType) -> tuple[StatReply, Opened | None]:
    """The file's record, and it open at a worker: None when it is empty, or better read from several workers.

    Raises FileNotFoundError, PermissionError, IsADirectoryError; UnavailableError when no worker can serve it.
    """
    direct = open_directly(link, path, read_type)
    if direct is not None:
        return StatReply(direct[1]), Opened(direct[0], 0, direct[1].length)
    found = find_file(link, path, link.settings.metadata_sync_interval)
    if not found.inode.length or wants_spread(link, found):
        return found, None
    try:
        return found, open_version(link, found, read_type)
    except (StaleVersionError, AuthenticationError):
        # The store's content changed behind the namespace, or the grant lay about too long: look again, for certain.
        found = find_file(link, path, 0.0)
        return found, open_version(link, found, read_type) if found.inode.length else None


def open_directly(link: Link, path: bytes, read_type: ReadType) -> tuple[int, Inode] | None:
    """A descriptor of the whole file and its record, without a call; None where that is not possible."""
    if link.direct is None or read_type is ReadType.CACHE_PROMOTE:
        return None
    return link.direct.open(path, link.sync_interval_ms)


def wants_spread(link: Link, found: StatReply) -> bool:
    """Whether to read block by block from several workers: none holds all of the file, and more than one is live."""
    cache = found.cache
    if cache is None or len(cache.holders) < 2:  # the ordinary case, without a call or a count
        return False
    blocks = block_count_of(found.inode.length, found.inode.block_size)
    return len(link.live_workers()) > 1 and is_spread(cache, blocks)


def find_file(link: Link, path: bytes, sync_interval_s: float | None) -> StatReply:
    """The file's record with a grant to read it. Raises IsADirectoryError for a directory."""
    found = link.run(operations.grant_read(path, sync_interval_s))
    if found.inode.is_dir:
        raise os_error(errno.EISDIR, "a directory cannot be read as a file: list it", path)
    if not found.inode.is_file:
        raise os_error(errno.ENXIO, "this is a FIFO, a socket or a device, which holds no bytes", path)
    return found


def open_version(link: Link, found: StatReply, read_type: ReadType) -> Opened:
    """That very version, open at the best worker that answers; tries others, then waits a little for one."""
    try:
        return _open_at_any(link, found, read_type)
    except UnavailableError as problem:
        total_s = link.settings.retry_total
        patience = Patience(total_s if link.live_workers(refresh=True) else min(total_s, WORKERS_AWAITED_S))
        while True:
            patience.pause_or_raise(problem)
            try:
                return _open_at_any(link, found, read_type)
            except UnavailableError as again:
                problem = again
                link.live_workers(refresh=True)


def _open_at_any(link: Link, found: StatReply, read_type: ReadType) -> Opened:
    problem = UnavailableError("no worker is live, so no file can be read: start one with `isotach worker`")
    for row in link.ranked_workers(found) or link.ranked_workers(found, refresh=True):
        try:
            return open_at(link, row, found.grant, read_type, holders_beside(found.cache, row.worker_id))
        except UnavailableError as away:
            problem = away
    raise problem


def holders_beside(cache: CacheState | None, worker_id: WorkerId) -> list[WorkerId]:
    """The other workers that hold something of a version: the one that reads it asks them before the under storage."""
    if cache is None:
        return []
    return [holder.worker_id for holder in cache.holders if holder.worker_id != worker_id]


def open_at(link: Link, row: WorkerRow, grant: bytes, read_type: ReadType, holders: Sequence[WorkerId] = ()) -> Opened:
    """The granted version, open at this worker, which is told of its other holders. Raises UnavailableError when it
    does not answer."""
    channel = link.worker(row)
    connection = channel.lease()
    kept = False
    try:
        if connection.address.is_unix:
            request = OpenRequest(grant, read_type, True, list(holders))
            reply, _, passed = connection.call_with_fd(OPEN, request, deadline_s=OPEN_DEADLINE_S)
            if link.direct is not None:
                link.direct.meet(row.worker_id, connection.welcome.direct)
        else:
            request = OpenRequest(grant, read_type, False, list(holders))
            reply, _ = connection.call(OPEN, request, deadline_s=OPEN_DEADLINE_S)
            passed = None
        fd = -1 if passed is None else passed
        kept = reply.handle != 0
        if kept:
            return Opened(fd, reply.handle, reply.present_bytes, channel, connection)
        if fd < 0:
            raise UnavailableError(f"the worker at {connection.address} passed no descriptor: try again")
        return Opened(fd, 0, reply.present_bytes)
    except DeadlineExceededError as late:
        raise UnavailableError(f"the worker at {connection.address} did not open the file in time: {late}") from late
    finally:
        if not kept:
            channel.give_back(connection)
