"""The session of a mount with the worker of its host, which holds the drafts of files being written.

Owns: the one connection that the drafts' lives hang on, taking the session over on another one when it broke, and the
calls about drafts. Never: writes to a draft, or decides what becomes of one that was lost.

`epoch` goes up whenever the connection was found lost: then the worker is asked about each draft before it is written
to again. That need not be at once: a worker copies what it publishes of a draft that somebody still has open.
"""

import os
import threading

from isotach.base.errors import IsotachError, UnavailableError
from isotach.base.limits import LONG_CALL_DEADLINE_S
from isotach.base.types import Inode
from isotach.client.link import Link
from isotach.net.blocking_channel import BlockingChannel
from isotach.net.blocking_client import BlockingConnection
from isotach.wire.messages import (
    DRAFT_CLOSE,
    DRAFT_OPEN,
    DRAFT_PUBLISH,
    DRAFT_ROOM,
    DRAFT_SESSION,
    DRAFT_SYNC,
    DraftOpenReply,
    DraftOpenRequest,
    DraftPublishRequest,
    DraftRequest,
    DraftRoomReply,
    DraftRoomRequest,
    DraftSessionRequest,
    DraftSyncRequest,
)

_SESSION_BYTES = 16


class DraftSession:
    """For many threads."""

    def __init__(self, link: Link) -> None:
        self.epoch = 0
        self.hard_limit = False  # whether the tier of the latest draft ends by itself
        self.opened = False  # there have been drafts
        self._link = link
        self._session = os.urandom(_SESSION_BYTES)
        self._lock = threading.Lock()
        self._channel: BlockingChannel | None = None
        self._anchor: BlockingConnection | None = None

    def is_sound(self) -> bool:
        """Whether the connection still stands, as far as this host's kernel knows (about 1 us). The epoch is another
        one after a False."""
        anchor = self._anchor
        if anchor is None:
            return False
        if not anchor.has_news():
            return True
        with self._lock:
            if self._anchor is anchor:
                self._let_go()
        return False

    def connect(self) -> BlockingChannel:
        """The channel to the worker, the session being open there. Raises UnavailableError when there is no worker on
        this host that passes descriptors."""
        self.is_sound()
        with self._lock:
            if self._channel is not None and self._anchor is not None:
                return self._channel
            channel = self._local_channel()
            anchor = channel.lease()
            try:
                anchor.call(DRAFT_SESSION, DraftSessionRequest(self._session))
            except BaseException:
                channel.give_back(anchor)
                raise
            self._channel, self._anchor = channel, anchor
            return channel

    def open(self, grant: bytes, room: int) -> tuple[DraftOpenReply, int]:
        """A new draft, and its descriptor (the caller's). Raises OSError(ENOSPC), UnavailableError."""
        channel = self.connect()
        request = DraftOpenRequest(self._session, grant, room)
        with channel.connection() as connection:
            reply, _, descriptor = connection.call_with_fd(DRAFT_OPEN, request)
        if descriptor is None:
            raise UnavailableError("the worker passed no descriptor for a new file: try again")
        self.hard_limit = reply.hard_limit
        self.opened = True
        return reply, descriptor

    def room(self, draft: int, room: int) -> tuple[DraftRoomReply, int]:
        """Room for `room` bytes in all, and the new descriptor when it moved, else -1."""
        request = DraftRoomRequest(self._session, draft, room)
        with self.connect().connection() as connection:
            reply, _, descriptor = connection.call_with_fd(DRAFT_ROOM, request, deadline_s=LONG_CALL_DEADLINE_S)
        if reply.moved and descriptor is None:
            raise UnavailableError("the worker moved a file and passed no descriptor: try again")
        return reply, -1 if descriptor is None else descriptor

    def sync(self, draft: int, grant: bytes, length: int) -> None:
        """From now on it is published as it stands at `length` bytes when this process or the worker dies."""
        request = DraftSyncRequest(self._session, draft, grant, length)
        self.connect().call(DRAFT_SYNC, request, deadline_s=LONG_CALL_DEADLINE_S)

    def publish(self, draft: int, grant: bytes, length: int, mtime_ns: int, keep: bool) -> Inode | None:
        """Makes it the file's content; None: the file was removed."""
        request = DraftPublishRequest(self._session, draft, grant, length, mtime_ns, keep)
        reply, _ = self.connect().call(DRAFT_PUBLISH, request, deadline_s=LONG_CALL_DEADLINE_S)
        return reply.inode

    def drop(self, draft: int) -> None:
        """Drops a draft. Never raises: what the worker does not hear of ends with the session."""
        try:
            if self.is_sound():
                self.connect().call(DRAFT_CLOSE, DraftRequest(self._session, draft))
        except (OSError, IsotachError):
            pass

    def keep(self) -> None:
        """Takes the session over soon after its connection was lost: a little later, the worker would take us for dead.
        Never raises."""
        if self.opened and not self.is_sound():
            try:
                self.connect()
            except (OSError, IsotachError):
                pass  # there will be another time

    def close(self) -> None:
        """Ends the session, and with it what was not published."""
        with self._lock:
            if self._anchor is not None:
                self._let_go()

    # --- inside ---

    def _let_go(self) -> None:
        anchor, channel = self._anchor, self._channel
        self._anchor = self._channel = None
        self.epoch += 1
        if anchor is not None and channel is not None:
            anchor.abort()
            channel.give_back(anchor)

    def _local_channel(self) -> BlockingChannel:
        for refresh in (False, True):
            for row in self._link.live_workers(refresh=refresh):
                if row.host_key == self._link.host_key:
                    channel = self._link.worker(row)
                    if channel.addresses[0].is_unix:
                        return channel
        raise UnavailableError("no worker of this host passes descriptors: files being written go to a spool file")
