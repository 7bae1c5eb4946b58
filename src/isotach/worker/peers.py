"""Other workers' caches as a place to read from, and what is known of those workers.

Owns: the channels to them, which of them are near or not to be bothered, and the comparison of what they send with its
checksums. Never: serves another worker (`sharing.py` does), or decides that the under storage is asked instead.

A worker that failed or was slow is left alone for a while: a dead one costs one short wait, not one for each read.
"""

import errno
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from isotach.base.errors import DataCorruptionError, IsotachError, StaleVersionError, UnavailableError
from isotach.base.limits import (
    DATA_CALL_DEADLINE_S,
    PAGE_BYTES,
    PEER_CONNECT_S,
    PEER_PAUSE_S,
    PEER_ROWS_AGE_S,
    PEER_SLOWEST_BYTES_PER_S,
    PEER_WAIT_S,
    PEERS_TRIED_MAX,
)
from isotach.base.locality import distance
from isotach.base.types import BlockHolder, ReadBuffer, Version, WorkerId
from isotach.blockstore.checksum import page_checksums
from isotach.net.address import Address
from isotach.net.blocking_channel import BlockingChannel
from isotach.net.retry import RetryPolicy
from isotach.obs.log import get_logger
from isotach.ufs.interface import RangeReader
from isotach.wire.grants import prove
from isotach.wire.messages import FETCH_VERSION, FetchVersionRequest, WorkerRow
from isotach.worker.metrics import WorkerMetrics

log = get_logger("worker.peers")
_ONE_TRY: Final = RetryPolicy(total_s=0.0, first_connect_s=0.0)

#: Who holds blocks of a version, and how the workers are reached: asks the master.
FindHolders = Callable[[Version], tuple[Sequence[BlockHolder], Sequence[WorkerRow]]]


class PeerWorkers:
    """One per worker process. `list_workers` asks the master; `own_id` is left out of its answer."""

    def __init__(
        self,
        secret: bytes,
        own_id: WorkerId,
        host_key: str,
        list_workers: Callable[[], Sequence[WorkerRow]],
        metrics: WorkerMetrics,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secret: Final = secret
        self._own_id: Final = own_id
        self._host_key: Final = host_key
        self._list: Final = list_workers
        self._metrics: Final = metrics
        self._monotonic_s: Final = monotonic_s
        self._lock: Final = threading.Lock()
        self._channels: dict[str, BlockingChannel] = {}
        self._left_alone: dict[WorkerId, float] = {}  # until when
        self._rows: list[WorkerRow] = []
        self._own: WorkerRow | None = None
        self._rows_until_s = float("-inf")

    def rows(self) -> list[WorkerRow]:
        """The other live workers, as of at most PEER_ROWS_AGE_S ago; nearest first. Raises UnavailableError."""
        now_s = self._monotonic_s()
        if now_s >= self._rows_until_s:
            self.know(self._list())
            self._rows_until_s = now_s + PEER_ROWS_AGE_S
        return self._rows

    def know(self, rows: Sequence[WorkerRow]) -> None:
        """The master's table, just fetched."""
        self._own = next((row for row in rows if row.worker_id == self._own_id), self._own)
        self._rows = self.ranked([row for row in rows if row.live])

    def ranked(self, rows: Sequence[WorkerRow]) -> list[WorkerRow]:
        """Nearest first, without this worker: those of this host, then those that share the narrowest locality."""
        own = [] if self._own is None else self._own.locality

        def rank(row: WorkerRow) -> tuple[bool, int]:
            return row.host_key != self._host_key, distance(own, row.locality)

        return sorted((row for row in rows if row.worker_id != self._own_id), key=rank)

    def is_left_alone(self, worker_id: WorkerId) -> bool:
        """Whether that worker failed a moment ago."""
        until_s = self._left_alone.get(worker_id)
        return until_s is not None and self._monotonic_s() < until_s

    def fetch(self, row: WorkerRow, version: Version, offset: int, length: int, deadline_s: float) -> ReadBuffer:
        """A range that this worker holds, its pages compared with their checksums at this end. Raises UnavailableError,
        DeadlineExceededError, StaleVersionError, DataCorruptionError."""
        try:
            data = self._fetch(row, version, offset, length, deadline_s)
        except (StaleVersionError, DataCorruptionError):
            raise  # it lives, and has not what we want
        except (IsotachError, OSError):
            self._left_alone[row.worker_id] = self._monotonic_s() + PEER_PAUSE_S
            raise
        self._left_alone.pop(row.worker_id, None)
        return data

    def close(self) -> None:
        """Closes every channel."""
        with self._lock:
            channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.close()

    def _fetch(self, row: WorkerRow, version: Version, offset: int, length: int, deadline_s: float) -> ReadBuffer:
        channel = self._channel(row)
        proof = prove(self._secret, version.to_bytes(8, "little"))
        for is_checked in (False, True):  # at the second time its worker looks for itself, and drops what is bad
            request = FetchVersionRequest(version, offset, length, proof, is_checked)
            reply, data = channel.call(FETCH_VERSION, request, deadline_s=deadline_s)
            if len(data) != length:
                raise StaleVersionError(errno.ESTALE, f"the worker at {row.address} has not all of it: try another one")
            if is_checked or not reply.crcs:  # both ends have looked, or it was not asked for whole pages
                if reply.crcs and page_checksums(data) != reply.crcs:
                    break
                return data
            if page_checksums(data) == reply.crcs:
                return data
            self._metrics.transfer_errors.add()
            log.error("transfer_checksum_mismatch", version=version, peer=row.worker_id, offset=offset)
        raise DataCorruptionError(
            errno.EIO, f"version {version} arrives from {row.address} with other bytes than it left: check the network"
        )

    def _channel(self, row: WorkerRow) -> BlockingChannel:
        address: Address | str = row.address
        if row.host_key == self._host_key and row.local_socket:
            address = Address.unix(row.local_socket.removeprefix("isotach+unix://"))
        with self._lock:
            channel = self._channels.get(str(address))
            if channel is None:
                channel = BlockingChannel(address, client="worker", policy=_ONE_TRY, connect_timeout_s=PEER_CONNECT_S)
                self._channels[str(address)] = channel
        return channel


class CopiesElsewhere:
    """Of one stored version: see `sources.PeerCopies`. `hints` are the workers that hold something of it, as the master
    said when the file was looked up; where they hold which blocks is asked only for a file of several blocks."""

    def __init__(
        self,
        peers: PeerWorkers,
        version: Version,
        length: int,
        block_bytes: int,
        hints: Sequence[WorkerId],
        find: FindHolders,
        rows: Sequence[WorkerRow] = (),
    ) -> None:
        self._peers: Final = peers
        self._version: Final = version
        self._block_bytes: Final = max(1, block_bytes)
        self._is_one_block: Final = length <= block_bytes
        self._hints: Final = frozenset(hints)
        self._find: Final = find
        self._known: list[tuple[WorkerRow, bytes | None]] | None = None
        self._given_rows: Final = list(rows)

    @property
    def may_help(self) -> bool:
        if self._known is None:
            return any(not self._peers.is_left_alone(worker_id) for worker_id in self._hints)
        return any(not self._peers.is_left_alone(row.worker_id) for row, _ in self._known)

    def read(self, offset: int, length: int) -> ReadBuffer | None:
        if not self.may_help:
            return None
        try:
            known = self._known if self._known is not None else self._look_up()
        except (IsotachError, OSError) as error:
            log.debug("holders_unknown", version=self._version, error=error)
            self._known = []
            return None
        blocks = range(offset // self._block_bytes, (offset + length - 1) // self._block_bytes + 1)
        deadline_s = PEER_WAIT_S + length / PEER_SLOWEST_BYTES_PER_S
        tried = 0
        for pair in list(known):
            row, held = pair
            if self._peers.is_left_alone(row.worker_id) or not _has_blocks(held, blocks):
                continue
            if tried == PEERS_TRIED_MAX:
                break
            tried += 1
            try:
                return self._peers.fetch(row, self._version, offset, length, deadline_s)
            except (IsotachError, OSError) as error:
                log.info("peer_gave_nothing", version=self._version, peer=row.worker_id, error=error)
                if pair in known:
                    known.remove(pair)
        return None

    def _look_up(self) -> list[tuple[WorkerRow, bytes | None]]:
        if self._is_one_block:
            rows = self._peers.ranked(self._given_rows) or self._peers.rows()
            self._known = [(row, None) for row in rows if row.worker_id in self._hints]
        else:
            holders, table = self._find(self._version)
            held = {holder.worker_id: holder.blocks for holder in holders}
            live = [row for row in table if row.live and row.worker_id in held]
            self._known = [(row, held[row.worker_id]) for row in self._peers.ranked(live)]
        return self._known


class RemoteSource:
    """Other workers hold the content, and no under storage does: they are asked block by block, patiently."""

    name = "remote"

    def __init__(self, peers: PeerWorkers, version: Version, block_bytes: int, find: FindHolders) -> None:
        self._peers = peers
        self._version = version
        self._block_bytes = block_bytes
        self._find = find
        self._rows: list[tuple[WorkerRow, bytes]] = []

    def read(self, offset: int, length: int) -> ReadBuffer:
        parts: list[ReadBuffer] = []
        at, end = offset, offset + length
        while at < end:
            stop = min(end, (at // self._block_bytes + 1) * self._block_bytes)
            parts.append(self._read_block(at, stop - at))
            at = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def stream(self, offset: int, length: int) -> RangeReader | None:
        return None

    def _read_block(self, offset: int, length: int) -> ReadBuffer:
        block = offset // self._block_bytes
        failure: Exception | None = None
        for attempt in range(2):
            if attempt or not self._rows:
                self._refresh()
            for row, held in self._rows:
                if not _has_blocks(held, range(block, block + 1)):
                    continue
                try:
                    return self._peers.fetch(row, self._version, offset, length, DATA_CALL_DEADLINE_S)
                except (UnavailableError, StaleVersionError, DataCorruptionError) as error:
                    failure = error
        raise UnavailableError(
            f"no live worker gives block {block} of version {self._version}, which is in no under storage yet"
            f"{f' ({failure})' if failure else ''}: wait for its worker to come back"
        )

    def _refresh(self) -> None:
        holders, rows = self._find(self._version)
        held = {holder.worker_id: holder.blocks for holder in holders}
        live = [row for row in rows if row.live and row.worker_id in held]
        self._rows = [(row, held[row.worker_id]) for row in self._peers.ranked(live)]


def _has_blocks(held: bytes | None, blocks: range) -> bool:
    """Whether the bitmap says so; None is a worker that has not been asked: it may."""
    return held is None or all(block // 8 < len(held) and bool(held[block // 8] >> block % 8 & 1) for block in blocks)


def is_page_aligned(offset: int, end: int, length: int) -> bool:
    """Whether [offset, end) of a file of `length` bytes consists of whole pages, so that checksums cover it."""
    return offset % PAGE_BYTES == 0 and (end % PAGE_BYTES == 0 or end == length)
