"""The feed of changes: tells mounts which entries changed, as soon as the change is durable.

Owns: CHANGES: who waits, when they are woken, and who may see what. Never: keeps the changes (`change_ring.py`), knows
who caches what, or slows a change down: with nobody asking, a batch costs it one call.

A feed belongs to one process of the master. Whoever comes with the number of another feed, or from before what is kept,
is told `missed`. Those who wait are woken at once after a quiet time, and at most every CHANGES_GATHER_S under load:
each reply then has several changes.
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
from isotach.base.types import FileId, Inode
from isotach.kv.interface import Batch
from isotach.master.change_ring import ChangeRing, ChangeRow, place_of
from isotach.master.core import Core
from isotach.master.former_records import FormerRecords
from isotach.namespace import permissions
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
        self._told_at = 0.0  # when those who wait were last woken
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
            delay_s = self._told_at + CHANGES_GATHER_S - self._loop.time()
            if delay_s <= 0:
                self._tell()
            else:
                self._telling = self._loop.call_later(delay_s, self._tell)

    def _tell(self) -> None:
        self._telling = None
        self._told_at = self._loop.time()
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
        actor = self._core.identity.actor(peer)
        changes = [_change_of(row) for row in rows]
        if not actor.superuser and changes:
            with self._core.reading() as view:
                changes = _visible(changes, view, actor)
        self.sent += len(changes)
        return ChangesReply(self._feed, after + len(rows), changes=changes)


def _change_of(row: ChangeRow) -> Change:
    """The record is sent as it is stored."""
    key, value, former = row
    directory_id, name = place_of(key)
    inode = None if value is None else cast(Inode, msgspec.Raw(value))
    return Change(directory_id, name, inode, 0 if former is None else decode_inode_head(former).id)


def _visible(changes: list[Change], view: View, actor: Actor) -> list[Change]:
    """Without the names in directories that the actor may not list, and nothing of those that it may not search."""
    known: dict[FileId, int] = {}
    shown = []
    for change in changes:
        access = known.get(change.directory_id)
        if access is None:
            access = known[change.directory_id] = _access(view, change.directory_id, actor)
        if access & permissions.EXECUTE:
            nameless = msgspec.structs.replace(change, directory_id=0, name=b"")
            shown.append(change if access & permissions.READ else nameless)
    return shown


def _access(view: View, directory_id: FileId, actor: Actor) -> int:
    """Whether the actor may list (4) and search (1) the directory, wherever it is by now."""
    if directory_id == 0:
        return permissions.READ | permissions.EXECUTE  # the root's own record
    try:
        inode = resolve(view, path_of(view, directory_id), actor).inode
    except FileNotFoundError:
        return permissions.EXECUTE  # a removed directory: only which inodes are gone
    except OSError:
        return 0
    return sum(bit for bit in (permissions.READ, permissions.EXECUTE) if permissions.allowed(inode, actor, bit))
