"""The feed of changes: tells mounts which entries changed, as soon as the change is durable.

Owns: CHANGES: who waits, when they are woken, and who may see what. Never: keeps the changes (`change_ring.py`), knows
who caches what, or slows a change down: with nobody asking, a batch costs it one call.

A feed belongs to one process of the master. Whoever comes with the number of another feed, or from before what is kept,
is told `missed`. Those who wait are woken CHANGES_GATHER_S after a change: under load each reply then has several, and
whoever made the change has its own reply first. Who gets a lock, and so must know of them, has them told at once.
"""

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any, Final, cast

import msgspec

from isotach.base.limits import (
    CHANGES_GATHER_S,
    CHANGES_IDLE_S,
    CHANGES_PER_REPLY_MAX,
    CHANGES_REPLY_BYTES_MAX,
    CHANGES_WAIT_MS_MAX,
)
from isotach.base.types import HARD_LINKS_ID, FileId, Inode
from isotach.kv.interface import Batch
from isotach.master.change_ring import ChangeRing, ChangeRow, is_stub, place_of
from isotach.master.core import Core
from isotach.master.former_records import FormerRecords
from isotach.namespace import keys, permissions
from isotach.namespace.actor import Actor
from isotach.namespace.lookup import path_of, resolve
from isotach.namespace.records import decode_inode_head
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.wire.messages import Change, ChangesReply, ChangesRequest


class ChangeFeed:
    """See the module. For the event-loop thread. `former` must be the journal of the pipeline."""

    def __init__(self, core: Core, former: FormerRecords, ring: ChangeRing | None = None) -> None:
        self._core: Final = core
        self._former: Final = former
        self._ring: Final = ChangeRing() if ring is None else ring
        self._feed: Final = secrets.randbits(62) + 1
        self._loop: Final = asyncio.get_running_loop()
        self._news: asyncio.Future[None] = self._loop.create_future()
        self._telling: asyncio.TimerHandle | None = None
        self._asked_at = -CHANGES_IDLE_S
        self._closed = False
        self.waiting = 0
        self.sent = 0
        self.missed = 0
        core.pipeline.on_commit(self._committed)

    def changes(self, request: ChangesRequest, peer: Peer) -> ChangesReply | Coroutine[Any, Any, ChangesReply]:
        """CHANGES. A peer that is no superuser is told of entries in directories that it may list, and of the inodes
        alone in others that it may search."""
        self._asked_at = self._loop.time()
        self._former.watched = True
        if request.feed == 0:
            return ChangesReply(self._feed, self._ring.last)
        if request.feed != self._feed or self._ring.has_missed(request.after):
            self.missed += 1
            return ChangesReply(self._feed, self._ring.last, missed=True)
        if request.after < self._ring.last or self._closed or request.wait_ms <= 0:
            return self._reply(request.after, peer)
        return self._wait(request, peer)

    @property
    def position(self) -> tuple[int, int]:
        """The feed and the number of its latest change, for somebody who is about to wait for it."""
        if self._telling is not None:
            self._telling.cancel()
            self._tell()
        return self._feed, self._ring.last

    async def stop_when_idle(self) -> None:
        """To be called now and then: with nobody asking for a while, nothing is noted any more."""
        if self._former.watched and not self.waiting and self._loop.time() - self._asked_at > CHANGES_IDLE_S:
            self._former.watched = False

    def close(self) -> None:
        """Answers those who wait."""
        self._closed = True
        if self._telling is not None:
            self._telling.cancel()
        self._tell()

    # --- the pipeline's side ---

    def _committed(self, index: int, rows: Batch) -> None:
        former = self._former.take(index)
        if former is None:
            self._ring.skip()
        elif not self._ring.add(rows, former):
            return
        if self.waiting and self._telling is None:
            self._telling = self._loop.call_later(CHANGES_GATHER_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        if not self._news.done():
            self._news.set_result(None)
        self._news = self._loop.create_future()

    # --- the listeners' side ---

    async def _wait(self, request: ChangesRequest, peer: Peer) -> ChangesReply:
        self.waiting += 1
        try:
            if request.after == self._ring.last and not self._closed:  # else: it came before this task's first step
                await asyncio.wait({self._news}, timeout=min(request.wait_ms, CHANGES_WAIT_MS_MAX) / 1000)
        finally:
            self.waiting -= 1
            self._asked_at = self._loop.time()
        if self._ring.has_missed(request.after):
            self.missed += 1
            return ChangesReply(self._feed, self._ring.last, missed=True)
        return self._reply(request.after, peer)

    def _reply(self, after: int, peer: Peer) -> ChangesReply:
        rows = self._ring.page(after, CHANGES_PER_REPLY_MAX, CHANGES_REPLY_BYTES_MAX)
        changes: list[Change] = []
        if rows:
            actor = self._core.identity.actor(peer)
            with self._core.reading() as view:
                changes = [_change_of(row, view) for row in rows]
                if not actor.superuser:
                    changes = _visible(changes, rows, view, actor)
        self.sent += len(changes)
        return ChangesReply(self._feed, after + len(rows), changes=changes)


def _change_of(row: ChangeRow, view: View) -> Change:
    """The record is sent as it is stored; of a file with several names, the one that they share."""
    key, value, former = row
    directory_id, name = place_of(key)
    gone_id = 0 if former is None else decode_inode_head(former).id
    if value is not None and is_stub(value):
        file_id = decode_inode_head(value).id
        value = view.get(keys.entry(HARD_LINKS_ID, keys.number(file_id)))
        gone_id = gone_id or (file_id if value is None else 0)  # removed since: that comes as a change of its own
    is_name = directory_id == HARD_LINKS_ID or (former is not None and is_stub(former))
    if gone_id and is_name and view.get(keys.location(gone_id)) is not None:
        gone_id = 0  # one name went, or the record back to the one that is left: the file is there
    if directory_id == HARD_LINKS_ID:
        directory_id, name = 0, b""
    return Change(directory_id, name, None if value is None else cast(Inode, msgspec.Raw(value)), gone_id)


def _visible(changes: list[Change], rows: list[ChangeRow], view: View, actor: Actor) -> list[Change]:
    """Without the names in directories that the actor may not list, and nothing of those that it may not search."""
    known: dict[FileId, int] = {}
    shown = []
    for change, (key, _, _) in zip(changes, rows, strict=True):
        place_id, name = place_of(key)
        if place_id == HARD_LINKS_ID:
            place_id = int.from_bytes(name, "big")
        access = known.get(place_id)
        if access is None:
            access = known[place_id] = _access(view, place_id, actor)
        if access & permissions.READ:
            shown.append(change)
        elif access & permissions.EXECUTE:
            shown.append(msgspec.structs.replace(change, directory_id=0, name=b""))
    return shown


def _access(view: View, place_id: FileId, actor: Actor) -> int:
    """What of its changes the actor may see: all (4), the inodes without their names (1), or nothing (0). The place is
    a directory, wherever it is by now, or a file with several names."""
    if place_id == 0:
        return permissions.READ  # the root's own record
    try:
        inode = resolve(view, path_of(view, place_id), actor).inode
    except FileNotFoundError:
        return permissions.EXECUTE  # removed: only which inodes are gone
    except OSError:
        return 0
    if not inode.is_dir or permissions.allowed(inode, actor, permissions.READ | permissions.EXECUTE):
        return permissions.READ
    return permissions.EXECUTE if permissions.allowed(inode, actor, permissions.EXECUTE) else 0
