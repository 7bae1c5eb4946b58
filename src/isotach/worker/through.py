"""Writing to an under storage while the bytes still come in: own thread, bounded queue, reusable buffers.

Owns: the buffers of one write, the thread that feeds the store's writer, and the store's errors, which the next call
raises. Never: decides when to commit (`writing.py` and `persist.py` do).

A file that fits into one buffer never starts a thread: it is stored in one request whose size is known.
"""

import queue
import threading
from collections.abc import Callable
from typing import Final

from isotach.base.limits import PASSING_PIECE_BYTES, THROUGH_QUEUE_CHUNKS, WRITE_CHUNK_BYTES
from isotach.ufs.interface import UfsStatus, UfsWriter
from isotach.worker.buffers import BufferBudget, Share

_Part = tuple[bytearray, int]


class ThroughWriter:
    """One file on its way to the under storage. Used by one thread; `prepare`, then `commit` or `abort`. `open_write`
    opens the store's writer, given the size where it is known; `budget` bounds the memory of all writes together."""

    def __init__(self, open_write: Callable[[int | None], UfsWriter], budget: BufferBudget | None = None) -> None:
        self._open_write = open_write
        self._budget: Final = budget
        self._shares: list[Share] = []
        self._made = 0  # buffers of this write: in `_free`, on their way, or lent
        self._writer: UfsWriter | None = None
        self._first: _Part | None = None  # the only part so far
        self._parts: Final[queue.Queue[_Part | None]] = queue.Queue(THROUGH_QUEUE_CHUNKS)
        self._free: Final[queue.SimpleQueue[bytearray]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def buffer(self, size: int) -> memoryview:
        """Memory for the next `size` bytes (at most WRITE_CHUNK_BYTES) or fewer, to be given to `feed`. Waits for the
        store to take what it was given when there is no memory for more."""
        while True:
            try:
                buffer = self._free.get_nowait()
            except queue.Empty:
                buffer = self._another(size)
            if len(buffer) >= min(size, PASSING_PIECE_BYTES):
                return memoryview(buffer)[:size]
            self._made -= 1  # that of a tiny first piece: not worth keeping

    def _another(self, size: int) -> bytearray:
        """A new buffer while memory lasts; else one that comes back from the store, or, to begin with, a small one."""
        wanted = size if self._thread is None and self._first is None else WRITE_CHUNK_BYTES
        if self._budget is not None:
            share = self._budget.take(wanted)
            if share is not None:
                self._shares.append(share)
            elif self._thread is not None and self._made:
                return self._free.get()  # each comes back: the thread takes every part to the end
            else:
                wanted = min(wanted, PASSING_PIECE_BYTES)
        self._made += 1
        return bytearray(wanted)

    def feed(self, view: memoryview) -> None:
        """Passes on a filled `buffer`, which must not be touched any more. Waits while the store is behind. Raises what
        the store raised."""
        self._raise()
        buffer = view.obj
        assert isinstance(buffer, bytearray)
        part = (buffer, view.nbytes)
        if self._thread is None and self._first is None:
            self._first = part
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="through", daemon=True)
            self._thread.start()
            assert self._first is not None
            self._parts.put(self._first)
            self._first = None
        self._parts.put(part)

    def prepare(self) -> None:
        """Waits until the store has every byte. Raises what the store raised."""
        if self._thread is None:
            size = 0 if self._first is None else self._first[1]
            self._writer = self._open_write(size)
            if self._first is not None and size:
                self._writer.write(memoryview(self._first[0])[:size])
            self._writer.prepare()
            return
        self._parts.put(None)
        self._thread.join()
        self._raise()
        assert self._writer is not None
        self._writer.prepare()

    def again(self, open_write: Callable[[int | None], UfsWriter]) -> bool:
        """After `prepare`: all once more, to another place. False when the bytes are not here any more."""
        if self._thread is not None:
            return False
        if self._writer is not None:
            self._writer.abort()
        self._open_write = open_write
        self.prepare()
        return True

    def commit(self) -> UfsStatus:
        """Makes the file visible in the store."""
        assert self._writer is not None, "prepare comes first"
        return self._writer.commit()

    def abort(self) -> None:
        """Drops all; safe at any time and more than once."""
        if self._thread is not None and self._thread.is_alive():
            if self._error is None:
                self._error = InterruptedError("the write was given up")
            self._parts.put(None)
            self._thread.join()
        if self._writer is not None:
            self._writer.abort()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        """Takes every part until the end, so that nobody waits for a writer that has failed."""
        try:
            self._writer = self._open_write(None)
        except Exception as error:  # told to whoever feeds next
            self._error = error
        while (part := self._parts.get()) is not None:
            buffer, size = part
            try:
                if self._error is None and self._writer is not None:
                    self._writer.write(memoryview(buffer)[:size])
            except Exception as error:  # as above
                self._error = error
            self._free.put(buffer)
