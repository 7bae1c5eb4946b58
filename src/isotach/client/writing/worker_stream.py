"""Sending a version's bytes to one worker.

Owns: one write handle on one leased connection, with a few writes under way, and its end: commit or abort. Never:
chooses the worker or decides what to send.
"""

from collections import deque

from isotach.base.errors import UnavailableError
from isotach.base.limits import DATA_CALL_DEADLINE_S, WRITES_IN_FLIGHT_MAX
from isotach.base.types import ReadBuffer
from isotach.client.link import Link
from isotach.net.blocking_client import BlockingConnection
from isotach.wire.messages import (
    COMMIT,
    WRITE,
    WRITE_OPEN,
    CommitReply,
    CommitRequest,
    WorkerRow,
    WriteOpenRequest,
    WriteRequest,
)


class WorkerStream:
    """An open write at one worker. A connection that dies takes the write with it: the worker drops it."""

    def __init__(self, link: Link, row: WorkerRow, grant: bytes, *, primary: bool) -> None:
        """Raises UnavailableError when the worker does not answer: nothing was sent then."""
        self._channel = link.worker(row)
        self._connection: BlockingConnection | None = self._channel.lease()
        self._unanswered: deque[int] = deque()
        try:
            reply, _ = self._connection.call(WRITE_OPEN, WriteOpenRequest(grant, primary))
        except BaseException:
            self._give_back()
            raise
        self._handle = reply.handle

    def send(self, offset: int, data: ReadBuffer, *, keep: bool) -> None:
        """Sends bytes that belong at `offset`; `data` may be changed afterwards. Raises an earlier write's error."""
        connection = self._open_connection()
        while len(self._unanswered) >= WRITES_IN_FLIGHT_MAX:
            self._take_answer(connection)
        request = WriteRequest(self._handle, offset, keep)
        self._unanswered.append(connection.send(WRITE, request, data, deadline_s=DATA_CALL_DEADLINE_S))

    def commit(self, length: int, mtime_ns: int = 0) -> CommitReply:
        """Ends the write; at the primary the file is visible then. `mtime_ns` 0: now."""
        connection = self._open_connection()
        while self._unanswered:
            self._take_answer(connection)
        try:
            request = CommitRequest(self._handle, length, mtime_ns)
            reply, _ = connection.call(COMMIT, request, deadline_s=DATA_CALL_DEADLINE_S)
        finally:
            self._give_back()
        return reply

    def abort(self) -> None:
        """Gives the write up by closing its connection; harmless after its end."""
        if self._connection is not None:
            self._connection.abort()
            self._give_back()

    def _take_answer(self, connection: BlockingConnection) -> None:
        connection.receive_header(self._unanswered.popleft(), deadline_s=DATA_CALL_DEADLINE_S)

    def _open_connection(self) -> BlockingConnection:
        if self._connection is None:
            raise UnavailableError("the write has ended: open the file again")
        return self._connection

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._channel.give_back(connection)
