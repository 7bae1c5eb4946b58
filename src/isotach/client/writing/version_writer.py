"""Writing one version of a file, from its creation to its commit.

Owns: the first bytes, held back so that a small file takes a single call; which worker gets which block; the rule that
one failure spoils the whole write. Never: retries a write that was begun (`whole.py` writes a new version instead).
"""

import os

from isotach.base.errors import IsotachError, UnavailableError
from isotach.base.limits import DATA_CALL_DEADLINE_S, PUT_BYTES_MAX, WORKERS_AWAITED_S, WRITE_CHUNK_BYTES
from isotach.base.types import WriteType
from isotach.client import operations
from isotach.client.link import Link
from isotach.client.patience import Patience
from isotach.client.writing.creating import WriteOptions, create
from isotach.client.writing.worker_stream import WorkerStream
from isotach.wire.messages import PUT, PutRequest, WorkerRow


class NoWorkerError(UnavailableError):
    """There is no worker to take the bytes: waiting longer will not help."""


class VersionWriter:
    """One version being written; one thread at a time. Ends with `commit` or `abort`."""

    def __init__(self, link: Link, path: bytes, options: WriteOptions) -> None:
        """Creates the version at the master: raises what forbids the write (permission, read-only mount, exists)."""
        self._link = link
        self._path = path
        self._pid = os.getpid()
        self._create = create(path, options, link.settings, link.host_key)
        self._created = link.run(self._create)
        self._write_type = WriteType(self._created.write_type)
        self._held: bytes | None = None
        self._streams: dict[int, WorkerStream] = {}
        self._failure: BaseException | None = None
        self._ended = False
        self.position = 0  # bytes written so far

    def write(self, data: memoryview) -> None:
        """Takes the next bytes; `data` may be changed afterwards. Raises the failure that spoilt the write."""
        self._check()
        if not len(data):
            return
        try:
            if self.position == 0 and len(data) <= self._held_bytes_max:
                self._held = bytes(data)
            else:
                if self._held is not None:
                    held, self._held = self._held, None
                    self._send(0, memoryview(held))
                self._send(self.position, data)
        except BaseException as problem:
            self._spoil(problem)
            raise
        self.position += len(data)

    def commit(self) -> None:
        """Makes the file visible, whole. Raises the failure that spoilt the write, or of the commit itself; after a
        connection that was lost in the commit, the master is asked whether it took effect."""
        self._check()
        try:
            if self.position == 0 and not self._write_type.goes_through:
                persist_later = self._write_type is WriteType.ASYNC_THROUGH
                self._link.run(operations.complete_empty(self._created.grant, persist_later))
            elif not self._streams:
                self._put(self._held or b"")
            else:
                self._finish_streams()
        except BaseException as problem:
            if isinstance(problem, ConnectionError | TimeoutError) and self._is_visible():
                self._ended = True
                return
            self._spoil(problem)
            raise
        self._ended = True

    def abort(self) -> None:
        """Gives the write up: nothing becomes visible. Never raises."""
        if self._ended:
            return
        self._ended = True
        self._held = None
        if self._pid != os.getpid():
            return  # the parent's write: it goes on there
        for stream in self._streams.values():
            stream.abort()
        try:
            self._link.run(operations.abort(self._created.grant))
        except (OSError, IsotachError):
            pass  # the master drops what is not completed in time

    @property
    def _held_bytes_max(self) -> int:
        return min(PUT_BYTES_MAX, self._created.block_size) if self._created.spread else PUT_BYTES_MAX

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._ended or self._pid != os.getpid():
            raise UnavailableError("this write has ended, or belongs to the parent process: open the file again")

    def _spoil(self, problem: BaseException) -> None:
        self._failure = problem
        self.abort()

    def _workers(self) -> list[WorkerRow]:
        """Where the bytes may go. Before the first of them: asks for a moment when there is no worker yet."""
        patience: Patience | None = None
        while not self._created.workers:
            name = os.fsdecode(self._path)
            problem = NoWorkerError(f"no worker is live to take the data of {name!r}: start one with `isotach worker`")
            patience = patience or Patience(min(WORKERS_AWAITED_S, self._link.settings.retry_total))
            patience.pause_or_raise(problem)
            self._link.run(operations.abort(self._created.grant))
            self._created = self._link.run(self._create)
        return self._created.workers

    def _put(self, data: bytes) -> None:
        problem: UnavailableError | None = None
        for row in self._workers():
            channel = self._link.worker(row)
            try:
                connection = channel.lease()
            except UnavailableError as away:  # nothing was sent: the next candidate may have it
                problem = away
                continue
            try:
                connection.call(PUT, PutRequest(self._created.grant), data, deadline_s=DATA_CALL_DEADLINE_S)
            finally:
                channel.give_back(connection)
            return
        assert problem is not None
        raise problem

    def _send(self, offset: int, data: memoryview) -> None:
        workers = len(self._workers())
        spread, block_size = self._created.spread, self._created.block_size
        while len(data):
            size, index = min(len(data), WRITE_CHUNK_BYTES), 0
            if spread:
                size = min(size, block_size - offset % block_size)
                index = offset // block_size % workers
            piece = data[:size]
            if index:
                self._stream(index).send(offset, piece, keep=True)
            if not index or self._write_type.goes_through:
                self._stream(0).send(offset, piece, keep=not index)
            offset += size
            data = data[size:]

    def _stream(self, index: int) -> WorkerStream:
        stream = self._streams.get(index)
        if stream is None:
            stream = self._streams[index] = self._open_stream(index)
        return stream

    def _open_stream(self, index: int) -> WorkerStream:
        workers, grant = self._workers(), self._created.grant
        if self._created.spread:
            return WorkerStream(self._link, workers[index], grant, primary=index == 0)
        problem: UnavailableError | None = None
        for row in workers:
            try:
                return WorkerStream(self._link, row, grant, primary=True)
            except UnavailableError as away:
                problem = away
        assert problem is not None
        raise problem

    def _finish_streams(self) -> None:
        # The others first: when the primary answers, the file is visible and must be whole.
        for index, stream in self._streams.items():
            if index:
                stream.commit(self.position)
        self._streams[0].commit(self.position)

    def _is_visible(self) -> bool:
        try:
            return self._link.run(operations.stat(self._path, None)).version == self._created.version
        except (OSError, IsotachError):
            return False
