"""Serving mounts that write: DRAFT_SESSION, DRAFT_OPEN, DRAFT_ROOM, DRAFT_SYNC, DRAFT_PUBLISH, DRAFT_CLOSE.

Owns: the handlers, and the end of sessions that nobody comes back for: their synced drafts are published, as they
stand, as soon as the master lets us; the others go. Never: writes a byte of a draft (the mount does, in the file that
it was passed), or publishes by itself while the mount lives (`draft_publishing.py`).

Each draft has a note beside it, so that a worker that starts anew knows it again: a mount that lives takes its session
over within DRAFT_TAKE_OVER_S and goes on in the same files.
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from isotach.base.errors import InvalidArgumentError, IsotachError, StaleVersionError
from isotach.base.limits import DRAFT_SALVAGE_RETRY_S, FOLDER_CHECK_S
from isotach.base.types import Inode
from isotach.blockstore.open_draft import OpenDraft
from isotach.blockstore.store import BlockStore
from isotach.net.thread_call import Call
from isotach.obs.log import get_logger
from isotach.wire.grants import unseal
from isotach.wire.messages import (
    DRAFT_CLOSE,
    DRAFT_OPEN,
    DRAFT_PUBLISH,
    DRAFT_ROOM,
    DRAFT_SESSION,
    DRAFT_SYNC,
    AnyMethod,
    DraftOpenReply,
    DraftOpenRequest,
    DraftPublishReply,
    DraftPublishRequest,
    DraftRequest,
    DraftRoomReply,
    DraftRoomRequest,
    DraftSessionRequest,
    DraftSyncRequest,
    Empty,
    WriteGrant,
)
from isotach.worker.draft_publishing import DraftPublisher, check_length, meta_of
from isotach.worker.draft_sessions import DraftNote, DraftSession, DraftSessions, HeldDraft
from isotach.worker.grant_cache import GrantCache
from isotach.worker.handles import Handles
from isotach.worker.metrics import WorkerMetrics

log = get_logger("worker.drafts")
_NUMBER_BYTES: Final = 7


class DraftService:
    """One per worker; called by all connection threads."""

    def __init__(
        self,
        store: BlockStore,
        grants: GrantCache,
        publisher: DraftPublisher,
        metrics: WorkerMetrics,
        secret: bytes,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store: Final = store
        self._grants: Final = grants
        self._publisher: Final = publisher
        self._metrics: Final = metrics
        self._secret: Final = secret
        self._monotonic_s: Final = monotonic_s
        self._sessions: Final = DraftSessions(monotonic_s)
        self._left: list[HeldDraft] = []  # synced drafts of ended sessions; of the thread only
        self._retry_at_s = 0.0
        self._wake: Final = threading.Event()
        self._stop: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="drafts", daemon=True)
        metrics.registry.watch("drafts_open", self._sessions.draft_count)

    def handlers(self) -> dict[AnyMethod, Callable[[Call], None]]:
        """What is served."""
        return {
            DRAFT_SESSION: self.session,
            DRAFT_OPEN: self.open,
            DRAFT_ROOM: self.room,
            DRAFT_SYNC: self.sync,
            DRAFT_PUBLISH: self.publish,
            DRAFT_CLOSE: self.close_draft,
        }

    def start(self) -> None:
        """Takes in what an earlier process left, and begins to look after sessions that end."""
        self._adopt_found()
        self._thread.start()

    def close(self) -> None:
        """Ends the thread. Drafts stay as they are: with their notes, for the next process."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    # --- handlers ---

    def session(self, call: Call) -> None:
        """The handler."""
        request: DraftSessionRequest = call.request
        anchor = _Anchor(request.session, self._detached)
        self._sessions.attach(request.session, _uid_of(call), anchor)
        handles = call.connection.state
        assert isinstance(handles, Handles)
        handles.add(anchor)
        call.reply(Empty())

    def open(self, call: Call) -> None:
        """The handler."""
        request: DraftOpenRequest = call.request
        session = self._sessions.get(request.session, _uid_of(call))
        grant = self._grants.write(request.grant)
        if not grant.by_id:
            raise InvalidArgumentError("a draft needs a grant of a write by id: create the file, then ask for one")
        check_length(request.room)
        draft = self._store.begin_open_draft(meta_of(grant, 0), request.room)
        number = int.from_bytes(os.urandom(_NUMBER_BYTES), "big")
        held = HeldDraft(draft, DraftNote(session.key, number, session.uid, request.grant))
        descriptor = -1
        try:
            descriptor = draft.open()
            draft.write_note(msgspec.msgpack.encode(held.note), durable=False)
            self._sessions.add(session, held)
            reply = DraftOpenReply(number, draft.room_bytes, draft.tier_alias, draft.hard_limit)
            call.reply_with_fd(reply, descriptor)
        except BaseException:
            session.drafts.pop(number, None)
            draft.drop()
            raise
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def room(self, call: Call) -> None:
        """The handler."""
        request: DraftRoomRequest = call.request
        check_length(request.room)
        with self._held(call, request.session, request.draft) as (_, held):
            draft = held.draft
            moved = draft.make_room(request.room)
            reply = DraftRoomReply(draft.room_bytes, moved, draft.tier_alias)
            if not moved:
                call.reply(reply)
                return
            self._metrics.drafts_moved.add()
            descriptor = draft.open()
            try:
                call.reply_with_fd(reply, descriptor)
            finally:
                os.close(descriptor)

    def sync(self, call: Call) -> None:
        """The handler."""
        request: DraftSyncRequest = call.request
        check_length(request.length)
        with self._held(call, request.session, request.draft) as (_, held):
            self._check_same_file(request.grant, held.draft)
            note = msgspec.structs.replace(held.note, grant=request.grant, length=request.length, synced=True)
            held.draft.write_note(msgspec.msgpack.encode(note), durable=True)
            held.note = note
        call.reply(Empty())

    def publish(self, call: Call) -> None:
        """The handler."""
        request: DraftPublishRequest = call.request
        session = self._sessions.get(request.session, _uid_of(call))
        before = session.outcome(request.draft)
        if before is not None:
            call.reply(DraftPublishReply(before[0]))
            return
        with self._held(call, request.session, request.draft) as (session, held):
            grant = self._check_same_file(request.grant, held.draft)
            inode = self._published(held, request, grant)
            if not request.keep:
                session.note_outcome(request.draft, inode)
                self._end(session, held)
        call.reply(DraftPublishReply(inode))

    def _published(self, held: HeldDraft, request: DraftPublishRequest, grant: WriteGrant) -> Inode | None:
        """A grant is used once: what an earlier try with it came to, by another process or with other bytes, need not
        be known then."""
        sealed = request.grant
        if held.was_left or grant.version <= held.used:
            sealed, grant = self._fresh_grant(sealed, grant)
        held.used = grant.version
        held.draft.meta = meta_of(grant, 0)
        return self._publisher.publish(held.draft, sealed, grant, request.length, request.mtime_ns, keep=request.keep)

    def _fresh_grant(self, sealed: bytes, grant: WriteGrant) -> tuple[bytes, WriteGrant]:
        """Raises StaleVersionError when the file was written or removed since that grant was given."""
        fresh = self._publisher.committer.renewed(sealed, grant.write_type)
        return fresh, self._grants.write(fresh)

    def close_draft(self, call: Call) -> None:
        """The handler. No error for a draft that is gone."""
        request: DraftRequest = call.request
        with (
            contextlib.suppress(FileNotFoundError),
            self._held(call, request.session, request.draft) as (session, held),
        ):
            self._end(session, held)
        call.reply(Empty())

    @contextmanager
    def _held(self, call: Call, key: bytes, number: int) -> Iterator[tuple[DraftSession, HeldDraft]]:
        """The draft, for one call at a time. Raises FileNotFoundError when it is gone."""
        session = self._sessions.get(key, _uid_of(call))
        held = session.drafts.get(number)
        if held is not None:
            with held.lock:
                if not held.ended:
                    yield session, held
                    return
        raise FileNotFoundError(errno.ENOENT, f"draft {number} is not here (any more): write the file to a new one")

    def _check_same_file(self, sealed: bytes, draft: OpenDraft) -> WriteGrant:
        grant = self._grants.write(sealed)
        if not grant.by_id or grant.file_id != draft.meta.file_id:
            raise InvalidArgumentError("the grant is another file's: ask for one of the file whose draft this is")
        return grant

    def _end(self, session: DraftSession, held: HeldDraft) -> None:
        """Under the draft's lock: it is not wanted any more, or published."""
        held.ended = True
        session.drafts.pop(held.note.draft, None)
        held.draft.drop()

    # --- sessions that end ---

    def _detached(self, key: bytes, anchor: object) -> None:
        self._sessions.detach(key, anchor)
        self._wake.set()

    def _run(self) -> None:
        while True:
            pause_s = DRAFT_SALVAGE_RETRY_S if self._left else FOLDER_CHECK_S
            self._wake.wait(self._sessions.next_end_s(pause_s))
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self._look_after()
            except Exception as error:  # one bad draft must not keep the others from being published
                log.error("drafts_not_looked_after", error=error, exc_info=error)

    def _look_after(self) -> None:
        self._adopt_found()
        ended = self._sessions.take_ended()
        for session in ended:
            self._take_leave(session)
        if self._left and (ended or self._monotonic_s() >= self._retry_at_s):
            self._retry_at_s = self._monotonic_s() + DRAFT_SALVAGE_RETRY_S
            self._left = [held for held in self._left if self._stop.is_set() or not self._is_settled(held)]

    def _adopt_found(self) -> None:
        for draft in self._store.take_found_drafts():
            try:
                note = msgspec.msgpack.decode(draft.note, type=DraftNote)
                grant = unseal(self._secret, note.grant, WriteGrant, 0.0)
            except (msgspec.MsgspecError, IsotachError) as error:
                log.warning("draft_not_known", error=error)
                draft.drop()
                continue
            draft.meta = meta_of(grant, 0)
            if not draft.may_stay() or not self._sessions.adopt(note, draft):
                draft.drop()  # or a copy of one that was on its way between two tiers

    def _take_leave(self, session: DraftSession) -> None:
        for held in list(session.drafts.values()):
            with held.lock:
                if held.ended:
                    continue
                held.ended = True
                if held.note.synced:
                    self._left.append(held)
                else:
                    self._drop(held)

    def _drop(self, held: HeldDraft) -> None:
        log.info("draft_dropped", file=held.draft.meta.file_id)
        self._metrics.drafts_dropped.add()
        held.draft.drop()

    def _is_settled(self, held: HeldDraft) -> bool:
        """Whether a synced draft that nobody comes back for is published, or not wanted by anybody any more."""
        note = held.note
        try:
            sealed, grant = self._fresh_grant(note.grant, unseal(self._secret, note.grant, WriteGrant, 0.0))
            inode = self._publisher.salvage(held.draft, sealed, grant, note.length)
        except StaleVersionError as stale:
            log.info("draft_overtaken", file=held.draft.meta.file_id, reason=stale)
            inode = None
        except (OSError, IsotachError) as error:
            log.warning("draft_waits", file=held.draft.meta.file_id, error=error, again_in_s=DRAFT_SALVAGE_RETRY_S)
            return False
        if inode is None:
            self._drop(held)
        else:
            log.info("draft_salvaged", file=inode.id, length=inode.length)
            self._metrics.drafts_salvaged.add()
            held.draft.finish()
        return True


class _Anchor:
    """Ends with its connection."""

    def __init__(self, key: bytes, detached: Callable[[bytes, object], None]) -> None:
        self._key: Final = key
        self._detached: Final = detached

    def close(self) -> None:
        """The connection is gone."""
        self._detached(self._key, self)


def _uid_of(call: Call) -> int:
    """Raises InvalidArgumentError for callers of other hosts."""
    if not call.peer.local or call.peer.uid is None:
        raise InvalidArgumentError("drafts are for mounts on the worker's host: connect to its Unix socket")
    return call.peer.uid
