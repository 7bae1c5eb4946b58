"""Copies files and trees from one side to the other: some files at once, the walk ahead of them by a bounded number.

Owns: the walk, the threads, and what happens to the rest when one file fails. Never: prints or knows a command.

Directories are made by the walk, before what they hold; files are copied by threads. A failed file is reported and the
others go on, unless the failure concerns them all (no master, no space).
"""

import errno
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Final, Self

from isotach.base.errors import InvalidArgumentError, UnavailableError, os_error
from isotach.base.limits import WRITE_CHUNK_BYTES
from isotach.cli.progress import Bar
from isotach.cli.transfer.place import Entry, Side

#: Files found by the walk that wait for a thread, per thread.
WAITING_PER_THREAD: Final = 4
_HOPELESS: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS))


class Transfer:
    """One copying command. A context manager: leaving it waits for the files under way; an error, or Ctrl-C, ends them.

    `overwrite` lets existing files be replaced; `preserve` carries permission bits and time of modification of files.
    `failed` is called in the thread of the walk with each error that does not end the transfer.
    """

    def __init__(
        self,
        source: Side,
        target: Side,
        *,
        overwrite: bool,
        preserve: bool,
        threads: int,
        bar: Bar,
        failed: Callable[[Exception], object],
    ) -> None:
        self._source = source
        self._target = target
        self._overwrite = overwrite
        self._preserve = preserve
        self._bar = bar
        self._failed = failed
        self._stopping = threading.Event()
        self._buffers = threading.local()
        self._under_way: set[Future[None]] = set()
        self._waiting_max = threads * (1 + WAITING_PER_THREAD)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="isotach-cp")
        self.failures = 0

    def copy(self, entry: Entry, target: str) -> bool:
        """Copies a file, or a directory with all it holds, to exactly `target`; whether all of it arrived."""
        before = self.failures
        if entry.is_dir:
            self._walk(entry, target)
        else:
            self._submit(entry, target)
        self._settle(0)
        return self.failures == before

    def _walk(self, root: Entry, target: str) -> None:
        self._target.make_directory(target)
        above = [(root.identity, target, self._source.children(root.path))]
        while above:
            _, folder, entries = above[-1]
            entry = self._next(entries)
            if entry is None:
                above.pop()
                continue
            inner = self._target.join(folder, entry.name)
            if not entry.is_dir:
                self._submit(entry, inner)
            elif entry.identity is not None and entry.identity in [identity for identity, _, _ in above]:
                self._fail(os_error(errno.ELOOP, "the link leads back to a directory above it: left out", entry.path))
            elif self._made(inner):
                above.append((entry.identity, inner, self._source.children(entry.path)))

    def _next(self, entries: Iterator[Entry]) -> Entry | None:
        try:
            return next(entries, None)
        except OSError as error:
            self._fail(error)
            return None

    def _made(self, folder: str) -> bool:
        try:
            self._target.make_directory(folder)
        except OSError as error:
            self._fail(error)
            return False
        return True

    def _submit(self, entry: Entry, target: str) -> None:
        self._bar.found(entry.length)
        self._under_way.add(self._pool.submit(self._copy_file, entry, target))
        self._settle(self._waiting_max)

    def _settle(self, under_way_max: int) -> None:
        """Waits until at most so many files are under way, and hears how the others went."""
        while len(self._under_way) > under_way_max:
            done, self._under_way = wait(self._under_way, return_when=FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if isinstance(error, Exception):
                    self._fail(error)
                elif error is not None:
                    raise error

    def _fail(self, error: Exception) -> None:
        if isinstance(error, UnavailableError) or (isinstance(error, OSError) and error.errno in _HOPELESS):
            raise error
        self.failures += 1
        self._failed(error)

    def _copy_file(self, entry: Entry, target: str) -> None:
        if not entry.copyable:
            raise os_error(errno.EINVAL, "neither a file nor a directory: left out", entry.path)
        buffer = self._buffer()
        with self._source.reading(entry.path) as source:
            count = _fill(source.readinto, buffer)
            if count < len(buffer):
                self._target.write_whole(target, buffer[:count], self._overwrite)
                self._bar.moved(count)
            else:
                with self._target.writing(target, self._overwrite) as file:
                    while count:
                        if self._stopping.is_set():
                            raise InterruptedError(errno.EINTR, "interrupted: the file is not there", target)
                        _write_all(file.write, buffer[:count])
                        self._bar.moved(count)
                        count = source.readinto(buffer) or 0
        if self._preserve:
            self._target.set_attributes(target, entry)
        self._bar.file_done()

    def _buffer(self) -> memoryview:
        buffer = getattr(self._buffers, "value", None)
        if not isinstance(buffer, memoryview):
            buffer = self._buffers.value = memoryview(bytearray(WRITE_CHUNK_BYTES))
        return buffer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)


def _fill(readinto: Callable[[memoryview], int | None], buffer: memoryview) -> int:
    """Reads until the buffer is full or the file ends."""
    filled = 0
    while filled < len(buffer):
        count = readinto(buffer[filled:])
        if not count:
            break
        filled += count
    return filled


def _write_all(write: Callable[[memoryview], int], data: memoryview) -> None:
    while data:
        data = data[write(data) :]


def refuse_overlap(source: str, target: str) -> None:
    """Raises for a copy onto itself or of a directory into itself, both on the same side."""
    origin, goal = source.rstrip("/") or "/", target.rstrip("/") or "/"
    if origin == goal:
        raise InvalidArgumentError(f"{source!r} and the target are the same: give another target")
    if origin == "/" or goal.startswith(origin + "/"):
        raise InvalidArgumentError(f"{source!r} cannot go into itself: give a target outside of it")
