"""Which worker holds which blocks: soft state, in an LMDB environment of its own that reader processes read too.

Owns: the soft store. Never: makes it durable (it is wiped at start, and rebuilt from the workers' reports) or keeps it
in Python memory: a million files cost the master no object.

Rows: version (8 bytes, big-endian) -> msgpack `CacheState`; b"w" + worker id + NUL + version (8) -> msgpack `_Share`,
the index by which a lost worker's rows are found.
"""

import asyncio
from collections.abc import Iterable

import msgspec

from isotach.base.limits import LOCATION_SLICE_ROWS
from isotach.base.types import BlockHolder, CacheState, Version, WorkerId
from isotach.kv.interface import Batch, KeyValueStore, Snapshot
from isotach.master.cache_states import summarize
from isotach.wire.messages import ReportedVersion

_encoder = msgspec.msgpack.Encoder()
_states = msgspec.msgpack.Decoder(CacheState)


class _Share(msgspec.Struct, array_like=True, frozen=True):
    """What is needed to add up a version's shares anew when one goes."""

    length: int
    block_size: int


class _Change(msgspec.Struct):
    """One version's share at one worker: new, or gone when `holder` is None."""

    version: Version
    worker_id: WorkerId
    holder: BlockHolder | None
    share: _Share | None


_shares = msgspec.msgpack.Decoder(_Share)


class Locations:
    """The soft store's one writer. Changes of one tick of the loop are written together."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self._changes: list[_Change] = []
        self._written: asyncio.Future[None] | None = None

    def state(self, version: Version) -> CacheState | None:
        """Where the version is cached now."""
        with self._store.snapshot() as snapshot:
            return _state(snapshot, version)

    def holders(self, version: Version) -> list[BlockHolder]:
        state = self.state(version)
        return [] if state is None else list(state.holders)

    async def report(self, worker_id: WorkerId, changed: Iterable[ReportedVersion], removed: Iterable[Version]) -> None:
        """Takes in a worker's shares; visible to every reader when this returns."""
        for row in changed:
            holder = BlockHolder(worker_id, row.memory_bytes, row.cached_bytes, row.blocks)
            gone = row.cached_bytes == 0
            change = _Change(row.version, worker_id, None if gone else holder, _Share(row.length, row.block_size))
            self._changes.append(change)
        self._changes += [_Change(version, worker_id, None, None) for version in removed]
        await self._write()

    async def add(self, version: Version, holder: BlockHolder, length: int, block_size: int) -> None:
        """One share, as a completed write brings it along."""
        self._changes.append(_Change(version, holder.worker_id, holder, _Share(length, block_size)))
        await self._write()

    async def forget(self, versions: Iterable[Version]) -> list[tuple[Version, WorkerId]]:
        """Drops all shares of these versions, in one write; returns who held them."""
        with self._store.snapshot() as snapshot:
            states = [(version, _state(snapshot, version)) for version in versions]
        held = [(version, row.worker_id) for version, state in states if state is not None for row in state.holders]
        self._changes += [_Change(version, worker_id, None, None) for version, worker_id in held]
        if held:
            await self._write()
        return held

    async def forget_worker(self, worker_id: WorkerId) -> int:
        """Drops all of a worker's shares, in slices. Returns how many."""
        prefix = _worker_prefix(worker_id)
        dropped = 0
        while True:
            with self._store.snapshot() as snapshot:
                slice_ = _versions_of(snapshot, prefix)
            if not slice_:
                return dropped
            self._changes += [_Change(version, worker_id, None, None) for version in slice_]
            await self._write()
            dropped += len(slice_)

    async def _write(self) -> None:
        if not self._changes:
            return
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(self._flush)
        await asyncio.shield(self._written)

    def _flush(self) -> None:
        written, self._written = self._written, None
        changes, self._changes = self._changes, []
        assert written is not None
        try:
            with self._store.snapshot() as snapshot:
                batch = _batch_of(snapshot, changes)
            self._store.commit(batch)
        except OSError as error:
            written.set_exception(error)
            written.exception()  # it may be that nobody waits any more
        else:
            written.set_result(None)


def _batch_of(snapshot: Snapshot, changes: list[_Change]) -> Batch:
    states: dict[Version, CacheState | None] = {}
    batch: Batch = []
    for change in changes:
        version = change.version
        before = states[version] if version in states else _state(snapshot, version)
        holders = [] if before is None else [row for row in before.holders if row.worker_id != change.worker_id]
        share = change.share
        if change.holder is not None:
            holders.append(change.holder)
        elif share is None:
            share = _share(snapshot, change.worker_id, version)
        if holders and share is not None:
            states[version] = summarize(holders, share.length, share.block_size)
        elif holders and before is not None and len(holders) < len(before.holders):
            states[version] = CacheState(before.memory_bytes, before.cached_bytes, holders)
        else:
            states[version] = before if holders else None
        row = None if change.holder is None else _encoder.encode(share)
        batch.append((_worker_prefix(change.worker_id) + _version_key(version), row))
    batch += [
        (_version_key(version), None if state is None else _encoder.encode(state)) for version, state in states.items()
    ]
    return batch


def _state(snapshot: Snapshot, version: Version) -> CacheState | None:
    raw = snapshot.get(_version_key(version))
    return None if raw is None else _states.decode(raw)


def _share(snapshot: Snapshot, worker_id: WorkerId, version: Version) -> _Share | None:
    raw = snapshot.get(_worker_prefix(worker_id) + _version_key(version))
    return None if raw is None else _shares.decode(raw)


def _versions_of(snapshot: Snapshot, prefix: bytes) -> list[Version]:
    found: list[Version] = []
    for key, _ in snapshot.scan(prefix, prefix + b"\xff" * 9):
        found.append(int.from_bytes(key[len(prefix) :], "big"))
        if len(found) == LOCATION_SLICE_ROWS:
            break
    return found


def _version_key(version: Version) -> bytes:
    return version.to_bytes(8, "big")


def _worker_prefix(worker_id: WorkerId) -> bytes:
    return b"w" + worker_id.encode() + b"\0"
