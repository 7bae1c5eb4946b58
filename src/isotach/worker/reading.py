"""Serving reads: OPEN, ENSURE, READ, CLOSE_HANDLE, LOAD.

Owns: how each is answered. Never: fetches or caches itself (`fetch`, `blockstore`).

The hot path is `open`: a capability seen before, one look into a dict, open, flock, send the descriptor, close. No
lock of ours, no index, no thread other than the connection's.
"""

import os
import time
from collections.abc import Callable
from typing import Final

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import (
    OPEN_FETCH_BYTES_MAX,
    OPEN_FETCH_PATIENCE_S,
    PAGE_BYTES,
    PAYLOAD_BYTES_MAX,
    REPORT_WAIT_BURST_S,
    REPORT_WAIT_S,
    REPORT_WAIT_SHARE,
)
from isotach.base.token_bucket import TokenBucket
from isotach.base.types import ReadType, Version
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.store import BlockStore
from isotach.net.thread_call import Call
from isotach.wire.messages import (
    Empty,
    EnsureReply,
    EnsureRequest,
    HandleRequest,
    LoadReply,
    LoadRequest,
    OpenReply,
    OpenRequest,
    ReadGrant,
    ReadReply,
    ReadRequest,
)
from isotach.worker.bypass import Bypass
from isotach.worker.fetch import Fetcher
from isotach.worker.grant_cache import GrantCache
from isotach.worker.handles import Handles
from isotach.worker.heat import Heat
from isotach.worker.loading import Loader, Wanting
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.reader import FilePiece, VersionReader

#: A read up to this size waits for all its bytes before it answers, so that a failure is told and not a broken line.
_WHOLE_ANSWER_BYTES: Final = 8 * PAGE_BYTES
_PROMOTE: Final = ReadType.CACHE_PROMOTE.value

#: Waits until the master has been told of a version, at most so many seconds.
WaitReported = Callable[[Version, float], None]


class ReadHandle:
    """One version open for reading. `shared` is the entry whose descriptor the client has, for ENSURE.

    Eviction policies weigh how often a file is read, whether in one range or in a thousand: opening counts as a use,
    and then each time that as many bytes as the file has were read.
    """

    def __init__(self, reader: VersionReader, shared: CachedVersion | None) -> None:
        self.reader = reader
        self.shared = shared
        self._bytes_of_use = 0

    def is_another_use(self, read_bytes: int) -> bool:
        """Whether reading so many bytes more begins another use."""
        before, self._bytes_of_use = self._bytes_of_use, self._bytes_of_use + read_bytes
        length = max(self.reader.length, 1)
        return before > 0 and (before - 1) // length != (self._bytes_of_use - 1) // length

    def close(self) -> None:
        self.reader.close()


class ReadService:
    """One per worker; called by all connection threads."""

    def __init__(
        self,
        store: BlockStore,
        fetcher: Fetcher,
        grants: GrantCache,
        metrics: WorkerMetrics,
        wanting: Wanting,
        loader: Loader,
        bypass: Bypass,
        wait_reported: WaitReported,
    ) -> None:
        self._store: Final = store
        self._fetcher: Final = fetcher
        self._grants: Final = grants
        self._metrics: Final = metrics
        self._wanting: Final = wanting
        self._loader: Final = loader
        self._bypass: Final = bypass
        self._wait: Final = wait_reported
        self.heat: Final = Heat()
        self._courtesy: Final = TokenBucket(REPORT_WAIT_SHARE, REPORT_WAIT_BURST_S)

    # --- OPEN ---

    def open(self, call: Call) -> None:
        """The handler. Raises AuthenticationError for a capability that is forged or has expired."""
        request: OpenRequest = call.request
        grant = self._grants.read(request.grant)
        entry = self._store.get(grant.version)
        if (
            entry is not None
            and entry.complete
            and entry.verified
            and request.want_fd
            and call.peer.local
            and request.read_type != _PROMOTE
            and (entry.tier.is_memory or not self._goes_around(entry, grant))
            and self._pass_container(call, entry)
        ):
            self._store.touch(grant.version)
            return
        self._open_slowly(call, request, grant)

    def _pass_container(self, call: Call, entry: CachedVersion) -> bool:
        """Passes the complete container's descriptor; False when it has left at this moment."""
        try:
            descriptor = self._store.open_container(entry)
        except FileNotFoundError:
            return False
        try:
            call.reply_with_fd(OpenReply(0, True, True, entry.meta.length), descriptor)
        finally:
            os.close(descriptor)
        self._metrics.descriptors_passed.value += 1
        return True

    def _open_slowly(self, call: Call, request: OpenRequest, grant: ReadGrant) -> None:
        passes_fd = request.want_fd and call.peer.local
        if not call.peer.local:
            self.heat.note(grant.version)
        if grant.length == 0 and passes_fd:
            _pass_empty(call)
            return
        if request.read_type == _PROMOTE:
            self._store.promote(grant.version)
        wanted = self._wanting.wanted(grant, request.read_type, fills=passes_fd, holders=request.holders)
        reader = VersionReader(self._store, self._fetcher, wanted)
        entry = reader.entry()
        if self._bypass.spares_cache(wanted) if entry is None else self._bypass.goes_around(entry, wanted, 0):
            reader.go_around(True)
            call.reply(OpenReply(_handles(call).add(ReadHandle(reader, None)), False, False, 0))
            return
        self._store.touch(grant.version)  # before it comes in: to arrive is no use
        if wanted.fills and grant.length <= OPEN_FETCH_BYTES_MAX and (entry is None or not entry.complete):
            self._fetcher.bring(wanted, OPEN_FETCH_PATIENCE_S)
            self._tell_master(reader)
            entry = reader.entry()
        if entry is not None and entry.complete and passes_fd and self._pass_container(call, entry):
            return
        handles = _handles(call)
        if not (passes_fd and reader.wanted.keep):
            number = handles.add(ReadHandle(reader, None))
            present = 0 if entry is None else entry.present_to(0)
            call.reply(OpenReply(number, False, reader.is_complete(), present))
            return
        self._pass_partial(call, handles, reader)

    def _pass_partial(self, call: Call, handles: Handles, reader: VersionReader) -> None:
        """A handle, and the descriptor of the container that is to be filled, if it may leave the worker."""
        entry = self._store.prepare(reader.wanted.meta)
        descriptor = -1
        if entry is not None and self._store.hand_out(entry):
            try:
                descriptor = self._store.open_container(entry)
            except FileNotFoundError:
                pass
        try:
            shared = entry if descriptor >= 0 else None
            number = handles.add(ReadHandle(reader, shared))
            reply = OpenReply(number, shared is not None, False, 0 if entry is None else entry.present_to(0))
            if descriptor >= 0:
                call.reply_with_fd(reply, descriptor)
                self._metrics.descriptors_passed.value += 1
            else:
                call.reply(reply)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _goes_around(self, entry: CachedVersion, grant: ReadGrant) -> bool:
        wanted = self._wanting.wanted(grant, ReadType.CACHE.value, fills=False)
        return self._bypass.goes_around(entry, wanted, 0)

    def _judge_tier(self, reader: VersionReader, offset: int, end: int) -> None:
        """Before each read through the socket: a tier may have become slower than the store, or quicker again."""
        cached = self._store.get(reader.wanted.meta.version)
        if cached is None or cached.tier.is_memory or not cached.complete:
            return
        is_around = self._bypass.goes_around(cached, reader.wanted, offset)
        reader.go_around(is_around)
        if is_around:
            self._metrics.bypassed_bytes.add(end - offset)

    # --- ENSURE and READ ---

    def ensure(self, call: Call) -> None:
        """The handler. Raises what the source of the bytes raised; it names the under-storage path."""
        request: EnsureRequest = call.request
        handle = _handles(call).get(request.handle, ReadHandle)
        reader, entry = handle.reader, handle.shared
        offset, end = _clamp(request.offset, request.length, reader.length)
        if entry is None:
            present_to = offset
        else:
            present_to = reader.ensure(entry, offset, end)
            if present_to >= reader.length:
                self._tell_master(reader)
        call.reply(EnsureReply(present_to))

    def read(self, call: Call) -> None:
        """The handler. A failure after the first byte has left breaks the connection: never wrong bytes."""
        request: ReadRequest = call.request
        if request.length > PAYLOAD_BYTES_MAX:
            raise InvalidArgumentError(
                f"a read of {request.length} bytes is too long: ask for at most {PAYLOAD_BYTES_MAX}"
            )
        handle = _handles(call).get(request.handle, ReadHandle)
        reader = handle.reader
        offset, end = _clamp(request.offset, request.length, reader.length)
        self._judge_tier(reader, offset, end)
        entry = reader.entry()
        if handle.is_another_use(end - offset):
            self._store.touch(reader.wanted.meta.version)
        if entry is None or not entry.complete:
            self._read_cold(call, reader, offset, end)
            return
        try:
            descriptor = reader.descriptor_of(entry)
        except FileNotFoundError:
            self._read_cold(call, reader, offset, end)
            return
        reader.forget_fetches()
        if end >= reader.length:
            self._tell_master(reader)
        self._count(entry, end - offset)
        call.reply_file(ReadReply(end - offset), descriptor, offset, end - offset)

    def _read_cold(self, call: Call, reader: VersionReader, offset: int, end: int) -> None:
        fetches = reader.begin(offset, end) if offset < end else []
        for fetch in fetches if end - offset <= _WHOLE_ANSWER_BYTES else fetches[:1]:
            fetch.wait()
        stream = call.reply_stream(ReadReply(end - offset), end - offset)
        left = end - offset
        for piece in reader.pieces(offset, end):
            left -= len(piece) if isinstance(piece, memoryview) else piece.length
            if left == 0 and end >= reader.length:
                self._tell_master(reader)
            if isinstance(piece, FilePiece):
                stream.send_file(piece.descriptor, piece.offset, piece.length)
                self._count(reader.entry(), piece.length)
            else:
                stream.send(piece)
                self._metrics.page_misses.value += (len(piece) + PAGE_BYTES - 1) // PAGE_BYTES

    def close_handle(self, call: Call) -> None:
        """The handler. No error for a handle that is closed already."""
        request: HandleRequest = call.request
        handle = _handles(call).pop(request.handle)
        if handle is not None:
            handle.close()
        call.reply(Empty())

    # --- LOAD ---

    def load(self, call: Call) -> None:
        """The handler."""
        request: LoadRequest = call.request
        grant = self._grants.read(request.grant)
        was_complete = self._is_complete(grant.version)
        size = self._loader.load(grant, holders=request.holders, bandwidth=request.bandwidth, promote=request.promote)
        if not was_complete:
            self._wait_reported(grant.version)
        call.reply(LoadReply(size))

    # --- inside ---

    def _is_complete(self, version: Version) -> bool:
        entry = self._store.get(version)
        return entry is not None and entry.complete

    def _tell_master(self, reader: VersionReader) -> None:
        """The end of a read that filled the cache."""
        if reader.saw_incomplete:
            reader.saw_incomplete = False
            self._wait_reported(reader.wanted.meta.version)

    def _wait_reported(self, version: Version) -> None:
        """A stat right after it shall see it. When such ends come one upon the other nobody looks after each, and all
        of them would wait for nothing: then only a share of the time is spent so."""
        started_s = time.monotonic()
        if self._courtesy.wait_s(started_s) > 0:
            return
        self._wait(version, REPORT_WAIT_S)
        ended_s = time.monotonic()
        self._courtesy.reserve(ended_s - started_s, ended_s)

    def _count(self, entry: CachedVersion | None, size: int) -> None:
        cell = self._metrics.read_memory if entry is None or entry.tier.is_memory else self._metrics.read_disk
        cell.value += size
        self._metrics.page_hits.value += (size + PAGE_BYTES - 1) // PAGE_BYTES


def _handles(call: Call) -> Handles:
    state = call.connection.state
    assert isinstance(state, Handles)
    return state


def _clamp(offset: int, length: int, file_length: int) -> tuple[int, int]:
    if offset < 0 or length < 0:
        raise InvalidArgumentError(f"offset {offset} and length {length} must not be negative")
    start = min(offset, file_length)
    return start, min(file_length, start + length)


def _pass_empty(call: Call) -> None:
    """An empty file needs no container."""
    descriptor = os.memfd_create("isotach-empty", os.MFD_CLOEXEC)
    try:
        call.reply_with_fd(OpenReply(0, True, True, 0), descriptor)
    finally:
        os.close(descriptor)
