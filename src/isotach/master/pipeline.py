"""The commit pipeline: the one way to change the namespace.

Owns: the order of changes, group commit, the writer thread, and the rule that no reply leaves before its commit is
durable. Never: knows what a handler does, talks to an under storage or to a worker.

Handlers run on the event-loop thread, one after the other, on the committed state plus the batches that are still on
their way to the disk. While the writer thread commits batch N, batch N+1 is built and grows until the writer takes it.
A handler that raises leaves nothing behind and fails alone. When a commit fails (a full disk), all handlers of that
batch and of what was built on it get the error, the state goes back to the last commit, and the next submit starts from
there.

    loop thread:    submit -> waiting -> _build -> open batch      ...      _written: renew the snapshot, answer
    writer thread:                                  takes it -> append (durable) -> call_soon_threadsafe

The lock guards which batch is open and which are in flight; it is held for a few instructions, never across I/O.
"""

import asyncio
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from isotach.base.failpoints import fail_at
from isotach.base.limits import BATCH_BYTES_MAX, BATCH_MUTATIONS_MAX, SWITCH_INTERVAL_S
from isotach.kv.interface import Batch, KeyValueStore, RenewableSnapshot
from isotach.namespace.counters import IdAllocator
from isotach.namespace.view import Overlay, View
from isotach.obs.log import get_logger

T = TypeVar("T")
_log: Final = get_logger("master.pipeline")


class Journal(Protocol):
    """Where batches become durable."""

    def append(self, batch: Batch) -> None:
        """Blocks until the batch is durable and applied to the store. Called in the writer thread, in order. Raises
        OSError when it is neither."""


class StoreJournal:
    """The store's own commit is the journal: one master."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store: Final = store

    def append(self, batch: Batch) -> None:
        self._store.commit(batch)


class PipelineMetrics(Protocol):
    """Told of each batch: handlers in it, rows, seconds in the journal, and whether it failed."""

    def committed(self, handlers: int, rows: int, seconds: float, failed: bool) -> None: ...


class _Waiting:
    """A submitted handler."""

    __slots__ = ("future", "handler")

    def __init__(self, handler: Callable[[View], Any], future: "asyncio.Future[Any]") -> None:
        self.handler = handler
        self.future = future


class _Batch:
    """A batch between building and being durable."""

    __slots__ = ("error", "generation", "overlay", "replies", "rows_bytes", "seconds")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.overlay = Overlay()
        self.replies: list[tuple[asyncio.Future[Any], Any]] = []
        self.rows_bytes = 0
        self.error: BaseException | None = None
        self.seconds = 0.0

    @property
    def is_full(self) -> bool:
        return len(self.replies) >= BATCH_MUTATIONS_MAX or self.rows_bytes >= BATCH_BYTES_MAX

    def absorb(self, later: "_Batch") -> None:
        self.overlay.absorb(later.overlay)
        self.replies += later.replies
        self.rows_bytes += later.rows_bytes


class CommitPipeline:
    """See the module. Made and used on one event loop; `start` before the first submit, `close` at the end."""

    def __init__(
        self, store: KeyValueStore, journal: Journal | None = None, metrics: PipelineMetrics | None = None
    ) -> None:
        self._journal: Final[Journal] = StoreJournal(store) if journal is None else journal
        self._metrics = metrics
        self._snapshot: Final[RenewableSnapshot] = store.renewable_snapshot()
        self._waiting: Final[deque[_Waiting]] = deque()
        self._lock: Final = threading.Lock()
        self._open: _Batch | None = None  # built, and growing until the writer takes it
        self._in_flight: Final[deque[_Batch]] = deque()  # taken by the writer, oldest first
        self._wake: Final[queue.SimpleQueue[bool]] = queue.SimpleQueue()  # False ends the writer
        self._listeners: Final[list[Callable[[int, Batch], None]]] = []
        self._next_index = 1
        self._generation = 0  # grows with each failed commit: what was built before is void
        self._scheduled = False
        self._closed = False
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self._thread: Final = threading.Thread(target=self._write_all, name="isotach-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ids: IdAllocator | None = None

    @property
    def ids(self) -> IdAllocator:
        """The allocator of versions, file ids and intents; its reserve is raised by the pipeline itself."""
        assert self._ids is not None, "start the pipeline first"
        return self._ids

    async def start(self) -> None:
        """Starts the writer and opens the id allocator (one commit)."""
        self._loop = asyncio.get_running_loop()
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        self._thread.start()
        self._ids = await self.submit(IdAllocator.open)
        self._ids.on_low = self._raise_id_mark

    def view(self) -> View:
        """What the next handler would see, to validate on. Changes to it go nowhere; use it before the next await."""
        return View(self._snapshot, self._layers())

    def committed_view(self) -> View | None:
        """The last commit that was answered for: no reading transaction is begun for it. To be used before the next
        await; changes to it go nowhere. None at the end."""
        return None if self._closed else View(self._snapshot)

    def on_commit(self, callback: Callable[[int, Batch], None]) -> None:
        """The change feed: called on the loop for every durable batch, in order, before its replies are delivered.
        `batch_index` counts from 1 in the life of this process."""
        self._listeners.append(callback)

    def submit(self, handler: Callable[[View], T]) -> "asyncio.Future[T]":
        """Runs the handler in its turn; the future gives its result once that is durable, or its exception, or the
        commit's OSError. A caller that is cancelled leaves its change in place."""
        assert self._loop is not None, "start the pipeline first"
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(ConnectionError("the master is shutting down: try again later"))
            return future
        self._waiting.append(_Waiting(handler, future))
        self._idle.clear()
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._build)
        return future

    async def drain(self) -> None:
        """Returns when nothing waits and nothing is in flight."""
        await self._idle.wait()

    async def close(self) -> None:
        """Finishes what was submitted, then stops. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._loop is not None:
            await self.drain()
            self._wake.put(False)
            await asyncio.to_thread(self._thread.join)
        self._snapshot.close()

    # --- building: on the loop ---------------------------------------------------------------------------------------

    def _layers(self) -> list[Overlay]:
        with self._lock:
            layers = [batch.overlay for batch in reversed(self._in_flight)]
            return layers if self._open is None else [self._open.overlay, *layers]

    def _build(self) -> None:
        """Runs what waits, up to the bounds of one batch, and leaves it for the writer to take."""
        self._scheduled = False
        if self._open is not None and self._open.is_full:
            return  # the writer is behind: `_written` goes on
        batch = _Batch(self._generation)
        layers = (batch.overlay, *self._layers())
        while self._waiting and not batch.is_full:
            self._run(self._waiting.popleft(), batch, layers)
        if batch.replies and not self._settle_unchanged(batch):
            self._publish(batch)
        self._schedule_or_rest()

    def _settle_unchanged(self, batch: _Batch) -> bool:
        """Handlers that changed nothing, and saw nothing that is still on its way to the disk, need no commit."""
        if batch.overlay.rows or self._layers():
            return False
        for future, result in batch.replies:
            if not future.done():
                future.set_result(result)
        return True

    def _publish(self, batch: _Batch) -> None:
        with self._lock:
            is_first = self._open is None
            if self._open is None:
                self._open = batch
            else:
                self._open.absorb(batch)
        if is_first:
            self._wake.put(True)

    def _run(self, waiting: _Waiting, batch: _Batch, layers: tuple[Overlay, ...]) -> None:
        """One handler on its own view."""
        if waiting.future.cancelled():
            return
        view = View(self._snapshot, layers)
        try:
            result = waiting.handler(view)
        except Exception as error:  # the submitter's, bug or not
            waiting.future.set_exception(error)
            return
        rows = view.own.rows
        if rows:
            batch.overlay.absorb(view.own)
            batch.rows_bytes += sum(len(key) + len(value or b"") for key, value in rows.items())
        batch.replies.append((waiting.future, result))

    def _schedule_or_rest(self) -> None:
        if self._waiting:
            if not self._scheduled:
                assert self._loop is not None
                self._scheduled = True
                self._loop.call_soon(self._build)
        elif self._open is None and not self._in_flight:
            self._idle.set()

    def _raise_id_mark(self) -> None:
        """Half of the reserved ids are used: reserve more, in whatever batch comes next."""

        def confirm(done: "asyncio.Future[int]") -> None:
            if done.cancelled() or done.exception() is not None:
                self.ids.reserve_failed()
            else:
                self.ids.confirm(done.result())

        self.submit(self.ids.reserve).add_done_callback(confirm)

    # --- writing: in the thread --------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        failed_generation = -1
        assert self._loop is not None
        while self._wake.get():
            with self._lock:
                batch, self._open = self._open, None
                if batch is None:
                    continue  # dropped by the loop after a failed commit
                self._in_flight.append(batch)
            if batch.generation > failed_generation:
                self._write(batch)
                if batch.error is not None:
                    failed_generation = batch.generation
            self._loop.call_soon_threadsafe(self._written, batch)

    def _write(self, batch: _Batch) -> None:
        started = time.perf_counter()
        try:
            if batch.overlay.rows:
                self._journal.append(list(batch.overlay.rows.items()))
        except Exception as error:  # the world's fault, or a bug: the submitters must know
            batch.error = error
        batch.seconds = time.perf_counter() - started

    # --- answering: on the loop --------------------------------------------------------------------------------------

    def _written(self, batch: _Batch) -> None:
        """The writer is done with the oldest batch in flight."""
        if batch.generation < self._generation:
            return  # built on a failed commit: its submitters were told
        if self._metrics is not None:
            self._metrics.committed(len(batch.replies), len(batch.overlay.rows), batch.seconds, batch.error is not None)
        if batch.error is not None:
            self._fail(batch.error)
            return
        with self._lock:
            taken = self._in_flight.popleft()
        assert taken is batch, "batches come back in order"
        self._snapshot.renew()
        fail_at("committed_before_reply")
        self._tell_listeners(batch)
        for future, result in batch.replies:
            if not future.done():
                future.set_result(result)
        self._schedule_or_rest()

    def _tell_listeners(self, batch: _Batch) -> None:
        if batch.overlay.rows:
            rows = list(batch.overlay.rows.items()) if self._listeners else []
            for listener in self._listeners:
                listener(self._next_index, rows)
            self._next_index += 1

    def _fail(self, error: BaseException) -> None:
        """A commit failed, and with it all that was built on it."""
        self._generation += 1
        with self._lock:
            void = list(self._in_flight)
            self._in_flight.clear()
            if self._open is not None:
                void.append(self._open)
                self._open = None
        _log.error(
            "commit_failed", error=str(error), batches=len(void), changes=sum(len(each.replies) for each in void)
        )
        self._snapshot.renew()
        for each in void:
            for future, _ in each.replies:
                if not future.done():
                    future.set_exception(_copy_of(error))
        self._schedule_or_rest()


def _copy_of(error: BaseException) -> BaseException:
    """An exception of its own for each waiter: they must not share a traceback."""
    if isinstance(error, OSError) and type(error).__init__ is OSError.__init__:
        copy = type(error)(*error.args) if error.filename is None else type(error)(*error.args, error.filename)
    else:
        copy = OSError(5, f"the change could not be stored: {error}")
    copy.__cause__ = error
    return copy
