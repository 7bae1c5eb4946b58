"""Which worker holds which blocks: soft state, in an LMDB environment of its own that reader processes read too.

Owns: the soft store, and who may write to it when. Never: makes it durable (`open_soft_store` tells when it is kept) or
keeps it in Python memory: a million files cost the master no object.

Small changes (a completed write, a free) are gathered for one tick of the loop and written there. What is large (a
page of a report, a slice of a lost worker) is prepared and written in one thread beside the loop, page by page; what is
small goes in between the pages, so that it never waits longer than one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from isotach.base.limits import LOCATION_SLICE_ROWS
from isotach.base.types import BlockHolder, CacheState, FileId, Version, WorkerId
from isotach.kv.interface import Batch, KeyValueStore, Snapshot
from isotach.master.location_rows import (
    COMPLETE_KEY,
    Change,
    Loss,
    Share,
    Told,
    batch_of,
    decode_share,
    dirty_holders,
    shares_in,
    state_in,
    told_in,
    told_key,
    workers_in,
)

T = TypeVar("T")


class Locations:
    """The soft store's one writer. For the event-loop thread; `suffered` is called there when small changes take
    something away that no store has. `remembers`: all workers that had anything before the start have rows."""

    def __init__(self, store: KeyValueStore, *, remembers: bool = False) -> None:
        self._store: Final = store
        self.remembers: Final = remembers
        self._changes: list[Change] = []
        self._written: asyncio.Future[None] | None = None
        self._thread: Final = ThreadPoolExecutor(1, "locations")
        self._turn: Final = asyncio.Lock()
        self._page_under_way = False
        self._between_pages: list[asyncio.Future[None]] = []  # who wants to look when the page has ended
        self.suffered: Callable[[Loss, WorkerId], None] = _ignore

    def close(self) -> None:
        """Ends the thread, after the page under way."""
        self._thread.shutdown()

    # --- reading ---

    def state(self, version: Version) -> CacheState | None:
        """Where the version is cached now."""
        with self._store.snapshot() as snapshot:
            return state_in(snapshot, version)

    def states(self, versions: Iterable[Version]) -> list[CacheState | None]:
        """The same for many, in order."""
        with self._store.snapshot() as snapshot:
            return [state_in(snapshot, version) for version in versions]

    def holders(self, version: Version) -> list[BlockHolder]:
        state = self.state(version)
        return [] if state is None else list(state.holders)

    def dirty_holders(self, version: Version, worker_ids: Iterable[WorkerId]) -> set[WorkerId]:
        """Which of them keep their copy from being evicted because no store has it."""
        with self._store.snapshot() as snapshot:
            return dirty_holders(snapshot, version, worker_ids)

    def file_of(self, worker_id: WorkerId, version: Version) -> FileId:
        """Whose version it is, by what that worker told; 0 when it holds nothing of it."""
        with self._store.snapshot() as snapshot:
            rows = shares_in(snapshot, worker_id, version, version + 1)
        return decode_share(rows[0][1]).file_id if rows else 0

    def told(self, worker_id: WorkerId) -> Told | None:
        """Up to which report the rows of a worker are."""
        with self._store.snapshot() as snapshot:
            return told_in(snapshot, worker_id)

    def workers(self) -> list[WorkerId]:
        """All that have rows here, or had."""
        with self._store.snapshot() as snapshot:
            return workers_in(snapshot)

    async def shares(self, worker_id: WorkerId) -> AsyncIterator[list[tuple[Version, Share]]]:
        """All that a worker holds, in slices, in order of the versions; read beside the loop."""
        start = 0
        while True:
            found = await asyncio.to_thread(self._shares_from, worker_id, start)
            if not found:
                return
            yield found
            start = found[-1][0] + 1

    def _shares_from(self, worker_id: WorkerId, start: Version) -> list[tuple[Version, Share]]:
        with self._store.snapshot() as snapshot:
            rows = shares_in(snapshot, worker_id, start, limit=LOCATION_SLICE_ROWS)
        return [(version, decode_share(raw)) for version, raw in rows]

    # --- small changes ---

    async def add(self, version: Version, worker_id: WorkerId, share: Share) -> None:
        """One share, as a completed write brings it along."""
        self._changes.append(Change(version, worker_id, share))
        await self._write()

    async def remove(self, worker_id: WorkerId, versions: Iterable[Version]) -> None:
        """A worker holds nothing of these any more; visible to every reader when this returns."""
        self._changes += [Change(version, worker_id, None) for version in versions]
        await self._write()

    async def holding(self, versions: Iterable[Version]) -> list[tuple[Version, WorkerId]]:
        """Who holds any of these versions. Waits for the page under way, which may be about to add one."""
        asked = set(versions)
        while self._page_under_way:
            turn = asyncio.get_running_loop().create_future()
            self._between_pages.append(turn)
            await turn  # woken ahead of whoever wants the next page
        with self._store.snapshot() as snapshot:
            states = [(version, state_in(snapshot, version)) for version in asked]
        held = [(version, row.worker_id) for version, state in states if state is not None for row in state.holders]
        return held + [(each.version, each.worker_id) for each in self._changes if each.share and each.version in asked]

    async def _write(self) -> None:
        if not self._changes:
            return
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(self._flush)
        await asyncio.shield(self._written)

    def _flush(self) -> None:
        if self._page_under_way or self._written is None:
            return  # goes on when the page has ended
        written, self._written = self._written, None
        changes, self._changes = self._changes, []
        try:
            with self._store.snapshot() as snapshot:
                batch, loss = batch_of(snapshot, changes)
            self._store.commit(batch)
        except OSError as error:
            written.set_exception(error)
            written.exception()  # it may be that nobody waits any more
        else:
            written.set_result(None)
            if loss:
                self.suffered(loss, changes[-1].worker_id)

    # --- large changes ---

    async def page(self, prepare: Callable[[Snapshot], tuple[Batch, T]]) -> T:
        """Runs `prepare` in the thread on the present rows, commits the batch that it makes there, and gives its other
        result. One page at a time, in the order of the calls. What `prepare` touches must be safe in a thread."""

        def work() -> T:
            with self._store.snapshot() as snapshot:
                batch, result = prepare(snapshot)
            if batch:
                self._store.commit(batch)
            return result

        loop = asyncio.get_running_loop()
        async with self._turn:
            self._page_under_way = True
            done = loop.run_in_executor(self._thread, work)
            try:
                return await asyncio.shield(done)
            except asyncio.CancelledError:
                await asyncio.wait([done])
                raise
            finally:
                self._page_under_way = False
                self._flush()
                turns, self._between_pages = self._between_pages, []
                for turn in turns:
                    if not turn.done():
                        turn.set_result(None)

    async def note_complete(self) -> None:
        """All that have anything have told it: the master's next process need not wait for those it does not know."""
        await self.page(lambda _snapshot: ([(COMPLETE_KEY, b"")], None))

    async def forget_worker(self, worker_id: WorkerId) -> AsyncIterator[tuple[list[FileId], Loss]]:
        """Drops all of a worker's shares. Gives their files slice by slice, each with what is lost or in danger."""
        while True:
            file_ids, loss = await self.page(lambda snapshot: _drop_slice(snapshot, worker_id))
            if not file_ids:
                return
            yield file_ids, loss


def _drop_slice(snapshot: Snapshot, worker_id: WorkerId) -> tuple[Batch, tuple[list[FileId], Loss]]:
    rows = shares_in(snapshot, worker_id, limit=LOCATION_SLICE_ROWS)
    batch, loss = batch_of(snapshot, [Change(version, worker_id, None) for version, _ in rows])
    batch.append((told_key(worker_id), None))
    return batch, ([decode_share(raw).file_id for _, raw in rows], loss)


def _ignore(_loss: Loss, _worker_id: WorkerId) -> None:
    return
