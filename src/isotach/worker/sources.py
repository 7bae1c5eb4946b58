"""Where the bytes of a version come from when they are not here: its under storage, or the workers that hold it.

Owns: the `Source` protocol and its two kinds. Never: caches, or runs threads.
"""

import errno
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from isotach.base.errors import DataCorruptionError, StaleVersionError, UnavailableError
from isotach.base.types import BlockHolder, ReadBuffer, Version, WorkerId
from isotach.net.blocking_channel import BlockingChannel
from isotach.ufs.interface import RangeReader, UnderStorage
from isotach.wire.grants import prove
from isotach.wire.messages import FETCH_VERSION, FetchVersionRequest, WorkerRow


class Source(Protocol):
    """Gives ranges of one version. Any thread."""

    name: str  # for metrics: ufs or remote

    def read(self, offset: int, length: int) -> ReadBuffer:
        """Exactly these bytes. Raises what the store or the peer raised; never returns fewer."""
        ...

    def stream(self, offset: int, length: int) -> RangeReader | None:
        """The same bytes to be received piece by piece; None when they come all at once in any case."""
        ...


class UfsSource:
    """The under storage holds the content."""

    name = "ufs"

    def __init__(self, storage: UnderStorage, path: str, fingerprint: str | None) -> None:
        self._storage = storage
        self._path = path
        self._fingerprint = fingerprint

    def read(self, offset: int, length: int) -> ReadBuffer:
        data = self._storage.read_range(self._path, offset, length, self._fingerprint)
        if len(data) != length:
            raise self._shorter(offset, length, len(data))
        return data

    def stream(self, offset: int, length: int) -> RangeReader | None:
        if not self._storage.capabilities.streams_ranges:
            return None
        inner = self._storage.open_range(self._path, offset, length, self._fingerprint)
        return _ExactRange(inner, length, lambda got: self._shorter(offset, length, got))

    def _shorter(self, offset: int, length: int, got: int) -> StaleVersionError:
        where = f"{self._storage.uri}/{self._path}"
        return StaleVersionError(
            errno.ESTALE, f"{where} became shorter: {got} of {length} bytes at {offset}; look it up again", where
        )


class _ExactRange:
    """A range that must not end before its length."""

    def __init__(self, inner: RangeReader, length: int, shorter: Callable[[int], StaleVersionError]) -> None:
        self._inner = inner
        self._length = length
        self._shorter = shorter
        self._got = 0

    def read_into(self, view: memoryview) -> int:
        count = self._inner.read_into(view)
        self._got += count
        if not count and self._got < self._length:
            raise self._shorter(self._got)
        return count

    def close(self) -> None:
        self._inner.close()


class PeerWorkers:
    """Channels to other workers, kept open. One per worker process."""

    def __init__(self, secret: bytes) -> None:
        self._secret: Final = secret
        self._channels: dict[str, BlockingChannel] = {}

    def fetch(self, row: WorkerRow, version: Version, offset: int, length: int) -> ReadBuffer:
        """A range that this worker holds. Raises UnavailableError, StaleVersionError, DataCorruptionError."""
        channel = self._channels.get(row.address)
        if channel is None:
            channel = self._channels.setdefault(row.address, BlockingChannel(row.address, client="worker"))
        proof = prove(self._secret, version.to_bytes(8, "little"))
        _, data = channel.call(FETCH_VERSION, FetchVersionRequest(version, offset, length, proof))
        return data

    def close(self) -> None:
        """Closes every channel."""
        for channel in list(self._channels.values()):
            channel.close()


class RemoteSource:
    """Other workers hold the content, block by block. `find` asks for the present holders (the master knows them)."""

    name = "remote"

    def __init__(
        self,
        peers: PeerWorkers,
        version: Version,
        block_bytes: int,
        find: Callable[[], tuple[Sequence[BlockHolder], Sequence[WorkerRow]]],
        own_id: WorkerId,
    ) -> None:
        self._peers = peers
        self._version = version
        self._block_bytes = block_bytes
        self._find = find
        self._own_id = own_id
        self._rows: list[tuple[BlockHolder, WorkerRow]] = []

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
            for holder, row in self._rows:
                if not _has_block(holder.blocks, block):
                    continue
                try:
                    data = self._peers.fetch(row, self._version, offset, length)
                except (UnavailableError, StaleVersionError, DataCorruptionError) as error:
                    failure = error
                    continue
                if len(data) == length:
                    return data
        raise UnavailableError(
            f"no live worker gives block {block} of version {self._version}, which is in no under storage yet"
            f"{f' ({failure})' if failure else ''}: wait for its worker to come back"
        )

    def _refresh(self) -> None:
        holders, rows = self._find()
        by_id = {row.worker_id: row for row in rows if row.live and row.worker_id != self._own_id}
        self._rows = [(holder, by_id[holder.worker_id]) for holder in holders if holder.worker_id in by_id]


def _has_block(blocks: bytes, block: int) -> bool:
    return block // 8 < len(blocks) and bool(blocks[block // 8] >> block % 8 & 1)
