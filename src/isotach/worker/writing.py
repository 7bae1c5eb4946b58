"""Serving writes: WRITE_OPEN, WRITE, COMMIT, WRITE_ABORT, PUT.

Owns: receiving payloads and answering. Never: stores a byte itself (`write_session.py`).
"""

from collections.abc import Callable
from typing import Final

from isotach.base.limits import BUFFER_BYTES, BUFFER_WRITE_SHARE, REPORT_WAIT_S, WRITE_CHUNK_BYTES
from isotach.base.types import Version
from isotach.blockstore.store import BlockStore
from isotach.net.thread_call import Call
from isotach.wire.messages import (
    CommitReply,
    CommitRequest,
    Empty,
    HandleRequest,
    PutRequest,
    WriteOpenReply,
    WriteOpenRequest,
    WriteRequest,
)
from isotach.worker.buffers import BufferBudget
from isotach.worker.committer import Committer
from isotach.worker.grant_cache import GrantCache
from isotach.worker.handles import Handles
from isotach.worker.leftovers import Leftovers
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.write_session import WriteSession


class WriteService:
    """One per worker; called by all connection threads."""

    def __init__(
        self,
        store: BlockStore,
        leftovers: Leftovers,
        grants: GrantCache,
        committer: Committer,
        metrics: WorkerMetrics,
        wait_reported: Callable[[Version, float], None],
        budget: BufferBudget | None = None,
    ) -> None:
        self._budget: Final = budget or BufferBudget(BUFFER_BYTES, BUFFER_WRITE_SHARE)
        self._store: Final = store
        self._leftovers: Final = leftovers
        self._grants: Final = grants
        self._committer: Final = committer
        self._metrics: Final = metrics
        self._wait_reported: Final = wait_reported

    def open(self, call: Call) -> None:
        """The handler. Raises AuthenticationError for a capability that is forged or has expired."""
        request: WriteOpenRequest = call.request
        session = self._session(request.grant, request.primary)
        try:
            number = _handles(call).add(session)
        except BaseException:
            session.abort()
            raise
        call.reply(WriteOpenReply(number))

    def write(self, call: Call) -> None:
        """The handler. After an error the handle is dead: nothing of the file becomes visible."""
        request: WriteRequest = call.request
        handles = _handles(call)
        session = handles.get(request.handle, WriteSession)
        try:
            self._receive(call, session, request.offset, request.keep)
        except BaseException:
            handles.pop(request.handle)
            session.close()
            raise
        call.reply(Empty())

    def commit(self, call: Call) -> None:
        """The handler."""
        request: CommitRequest = call.request
        handles = _handles(call)
        session = handles.get(request.handle, WriteSession)
        handles.pop(request.handle)
        handles.shrink()
        inode = session.commit(request.length, request.mtime_ns)
        if inode is None:
            self._wait_reported(session.version, REPORT_WAIT_S)  # the primary's COMPLETE comes next
        call.reply(CommitReply(inode))

    def abort(self, call: Call) -> None:
        """The handler. No error for a handle that is closed already."""
        request: HandleRequest = call.request
        handle = _handles(call).pop(request.handle)
        if handle is not None:
            handle.close()
        call.reply(Empty())

    def put(self, call: Call) -> None:
        """The handler: a whole file in one call."""
        request: PutRequest = call.request
        session = self._session(request.grant, True)
        length = call.payload_bytes
        try:
            self._receive(call, session, 0, True)
        except BaseException:
            session.close()
            raise
        call.reply(CommitReply(session.commit(length, request.mtime_ns)))

    def _session(self, sealed: bytes, primary: bool) -> WriteSession:
        grant = self._grants.write(sealed)
        return WriteSession(
            sealed, grant, primary, self._store, self._leftovers, self._committer, self._metrics, self._budget
        )

    def _receive(self, call: Call, session: WriteSession, offset: int, keep: bool) -> None:
        reusable = _handles(call).grown(min(call.payload_left, WRITE_CHUNK_BYTES), self._budget)
        while call.payload_left:
            view = session.buffer(min(call.payload_left, WRITE_CHUNK_BYTES), reusable)
            size = call.receive_payload_into(view)
            session.write(offset, view[:size], keep)
            offset += size


def _handles(call: Call) -> Handles:
    state = call.connection.state
    assert isinstance(state, Handles)
    return state
