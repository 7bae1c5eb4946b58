"""The leave to replace one file's content, which each publication uses up.

Owns: asking the master for it by the file's id, how long one that lies about is believed, and the calls that publish
what is no draft: a small file at once, a large one in pieces. Never: holds the bytes, or decides when. What is not used
is not given back: the master forgets it in time, and a file that is made and not written costs no further call.
"""

import errno
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from isotach.base.errors import AuthenticationError, StaleVersionError, UfsError, UnavailableError
from isotach.base.limits import DATA_CALL_DEADLINE_S, FUSE_GRANT_FRESH_S, FUSE_MASTER_SEEN_S, WORKERS_AWAITED_S
from isotach.base.paths import id_path
from isotach.base.types import FileId, Inode, ReadBuffer, WriteType
from isotach.client import operations
from isotach.client.link import Link
from isotach.client.operations import Operation, Where
from isotach.client.patience import Patience
from isotach.client.placing import locality_of
from isotach.client.writing.version_writer import NoWorkerError
from isotach.client.writing.worker_stream import WorkerStream
from isotach.wire.messages import COMPLETE, PUT, CompleteReply, CompleteRequest, CreateReply, CreateRequest, PutRequest

R = TypeVar("R")


class Grants:
    """Of one file being written; one thread at a time."""

    def __init__(
        self, link: Link, file_id: FileId, write_type: WriteType | None, created: CreateReply | None = None
    ) -> None:
        """`write_type` None: the client's own, which gives way to a policy of the path."""
        self._link = link
        self._file_id = file_id
        self._given = write_type
        self._created = created
        self._since = time.monotonic()
        self._in_doubt = False  # it may have taken effect

    def current(self) -> CreateReply:
        """One that is not used up. Raises FileNotFoundError when the file is gone, and what forbids the write."""
        old = not self._in_doubt and time.monotonic() - self._since > FUSE_GRANT_FRESH_S
        if self._created is None or old:
            self._in_doubt = False
            self._created = self._link.run(operations.create(self._request()))
            self._since = time.monotonic()
        return self._created

    @property
    def write_type(self) -> WriteType:
        """Where the file goes by the rules of its path."""
        return WriteType(self.current().write_type)

    @property
    def patience_s(self) -> float:
        """How long a call waits for a master or worker that is away."""
        return self._link.settings.retry_total

    def find_master(self) -> None:
        """Raises UnavailableError when the master is away, after `patience_s`: a worker that needs it to publish waits
        for much longer (about 0.2 ms). A grant that the master gave a moment ago is proof enough."""
        if time.monotonic() - self._since > FUSE_MASTER_SEEN_S:
            self._link.run(operations.worker_rows())

    def publish(self, send: Callable[[CreateReply], R], *, keep_in_doubt: bool = False) -> R | None:
        """Uses one up, and a second one when the master or the worker took the first for too old. None: the file is
        gone. Raises what `send` does. With `keep_in_doubt`, one of which nobody knows whether it took effect is used
        for the next try, which must be for the same content then."""
        for last in (False, True):
            try:
                created = self.current()
            except FileNotFoundError as problem:
                if isinstance(problem, UfsError):
                    raise
                return None
            try:
                outcome = send(created)
            except (StaleVersionError, AuthenticationError) as problem:
                self._created = None
                if problem.errno == errno.ENOENT:
                    return None
                if last:
                    raise
                continue
            except (ConnectionError, TimeoutError):
                self._in_doubt = keep_in_doubt
                if not keep_in_doubt:
                    self._created = None
                raise
            except BaseException:
                self._created = None
                raise
            self._created = None
            return outcome
        raise AssertionError("the last try returns or raises")

    def publish_bytes(self, data: memoryview, mtime_ns: int) -> Inode | None:
        """The whole content in one call; nothing of it is kept here."""
        if not len(data):
            return self.publish(lambda created: self._complete_empty(created, mtime_ns))
        self.find_master()
        return self.publish(lambda created: self._put(created, data, mtime_ns))

    def publish_pieces(self, pieces: Callable[[], Iterable[ReadBuffer]], length: int, mtime_ns: int) -> Inode | None:
        """The content in order, to whichever worker takes it."""
        return self.publish(lambda created: self._stream(created, pieces(), length, mtime_ns))

    # --- inside ---

    def _request(self) -> CreateRequest:
        settings = self._link.settings
        return CreateRequest(
            path=id_path(self._file_id),
            write_type=(self._given or settings.write_type).value,
            parents=False,
            host_key=self._link.host_key,
            locality=list(locality_of(settings.locality)),
            write_type_given=self._given is not None,
            by_id=True,
        )

    def _complete_empty(self, created: CreateReply, mtime_ns: int) -> Inode | None:
        later = WriteType(created.write_type) is not WriteType.MUST_CACHE
        request = CompleteRequest(created.grant, 0, mtime_ns=mtime_ns, persist_later=later)

        def decode(reply: CompleteReply, _payload: object) -> Inode:
            return reply.inode

        return self._link.run(Operation(COMPLETE, request, Where.MASTER, decode))

    def _put(self, created: CreateReply, data: memoryview, mtime_ns: int) -> Inode | None:
        def put_at(created: CreateReply) -> Inode | None:
            problem = UnavailableError("no worker is there to take the bytes: start one with `isotach worker`")
            for row in created.workers:
                channel = self._link.worker(row)
                try:
                    connection = channel.lease()
                except UnavailableError as away:  # nothing was sent: the next candidate may have it
                    problem = away
                    continue
                try:
                    request = PutRequest(created.grant, mtime_ns)
                    reply, _ = connection.call(PUT, request, data, deadline_s=DATA_CALL_DEADLINE_S)
                finally:
                    channel.give_back(connection)
                return reply.inode
            raise problem

        return self._at_workers(created, put_at)

    def _stream(self, created: CreateReply, pieces: Iterable[ReadBuffer], length: int, mtime_ns: int) -> Inode | None:
        def stream_to(created: CreateReply) -> Inode | None:
            stream = self._open_stream(created)
            offset = 0
            try:
                for piece in pieces:
                    stream.send(offset, piece, keep=True)
                    offset += len(piece)
                return stream.commit(length, mtime_ns).inode
            finally:
                stream.abort()

        return self._at_workers(created, stream_to)

    def _open_stream(self, created: CreateReply) -> WorkerStream:
        problem = UnavailableError("no worker is there to take the bytes: start one with `isotach worker`")
        for row in created.workers:
            try:
                return WorkerStream(self._link, row, created.grant, primary=True)
            except UnavailableError as away:
                problem = away
        raise problem

    def _at_workers(self, created: CreateReply, send: Callable[[CreateReply], R]) -> R:
        """Waits for a first worker for a moment, as clients do."""
        patience: Patience | None = None
        while not created.workers:
            patience = patience or Patience(min(WORKERS_AWAITED_S, self._link.settings.retry_total))
            patience.pause_or_raise(NoWorkerError("no worker is live to take the data: start one"))
            self._created = None
            created = self.current()
        return send(created)
