"""Changing attributes: SET_ATTR, on one entry or on all below it.

Owns: the recursion in slices, and what follows from a change: modes pushed to stores that have them, pins told to the
workers. Never: judges who may change what (`namespace.attributes` does).
"""

import asyncio
import os

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import COMMANDS_QUEUED_MAX, WALK_SLICE_ENTRIES
from isotach.base.types import Flag, Inode
from isotach.master import placement
from isotach.master.core import Core
from isotach.master.locations import Locations
from isotach.master.mount_set import MountSet
from isotach.master.sync import Syncer
from isotach.master.ufs_pool import UfsPool
from isotach.master.workers import WorkerRegistry
from isotach.namespace.actor import SYSTEM
from isotach.namespace.attributes import set_attributes, set_attributes_at
from isotach.namespace.lookup import Resolved, resolve, try_resolve
from isotach.namespace.symlinks import refuse_symlink
from isotach.namespace.view import View
from isotach.namespace.walk import walk
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.messages import CountReply, SetAttrRequest

log = get_logger("master.attributes")
#: How full a worker's queue may get by pins, and how often it is looked at again.
_PINS_QUEUED_MAX = COMMANDS_QUEUED_MAX // 2
_PIN_PAUSE_S = 0.05
_PIN_PAUSES_MAX = 200


class _Slice(msgspec.Struct, frozen=True):
    """What one commit of a recursive change did."""

    changed: list[Inode]
    skipped: int
    next_key: bytes | None


class Attributes:
    """One per master. For the event-loop thread."""

    def __init__(
        self,
        core: Core,
        *,
        mounts: MountSet,
        pool: UfsPool,
        syncer: Syncer,
        locations: Locations,
        workers: WorkerRegistry,
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._pool = pool
        self._syncer = syncer
        self._locations = locations
        self._workers = workers

    async def set_attr(self, request: SetAttrRequest, peer: Peer) -> CountReply:
        """The handler. A recursive change leaves out what the caller may not change, and what the change makes no
        sense for, and counts it as skipped."""
        _check_names(request)
        await self._syncer.load(request.path)
        actor, now_ns = self._core.identity.actor(peer), self._core.clock.now_ns()
        with self._core.reading() as view:
            met = try_resolve(view, request.path, actor)
            if isinstance(met, Resolved) and request.follow:
                refuse_symlink(met.inode, request.path)
        top = await self._core.pipeline.submit(lambda view: set_attributes(view, request, actor, now_ns))
        await self._tell_pins(request, [top])
        await self._push_mode(request, top)
        count, skipped = 1, 0
        if not request.recursive or not top.is_dir:
            return CountReply(count)
        next_key: bytes | None = b""
        while next_key is not None:
            done = await self._core.pipeline.submit(
                lambda view, key=next_key: self._slice(view, top, key, request, peer)  # type: ignore[misc]
            )
            await self._tell_pins(request, done.changed)
            count, skipped, next_key = count + len(done.changed), skipped + done.skipped, done.next_key
        return CountReply(count, skipped)

    def _slice(self, view: View, top: Inode, key: bytes, request: SetAttrRequest, peer: Peer) -> _Slice:
        actor, now_ns = self._core.identity.actor(peer), self._core.clock.now_ns()
        seen = walk(view, top.id, key, WALK_SLICE_ENTRIES)
        changed, skipped = [], 0
        for entry in seen.entries:
            if entry.inode.is_symlink and request.mode is not None:
                continue  # a link has no mode of its own, and is not followed from here
            try:
                changed.append(
                    set_attributes_at(view, entry.parent_id, entry.name, entry.inode, request, actor, now_ns)
                )
            except (PermissionError, InvalidArgumentError):
                skipped += 1
        return _Slice(changed, skipped, seen.next_key)

    async def _tell_pins(self, request: SetAttrRequest, changed: list[Inode]) -> None:
        """Waits while a worker has not yet taken what it was told before: a million pins must not overflow its queue.
        A worker that hangs learns of the pin from the next read's capability."""
        if request.pinned is None and request.tier is None:
            return
        for inode in changed:
            if not inode.version:
                continue
            kind = "PIN" if inode.flags & Flag.PINNED else "UNPIN"
            tier = "" if inode.policy is None else inode.policy.tier
            for holder in self._locations.holders(inode.version):
                await self._room_at(holder.worker_id)
                self._workers.tell(holder.worker_id, kind, inode.version, tier=tier)

    async def _room_at(self, worker_id: str) -> None:
        for _ in range(_PIN_PAUSES_MAX):
            worker = self._workers.get(worker_id)
            if worker is None or not worker.live or len(worker.queue) < _PINS_QUEUED_MAX:
                return
            await asyncio.sleep(_PIN_PAUSE_S)

    async def _push_mode(self, request: SetAttrRequest, inode: Inode) -> None:
        """The store's own mode follows where it has one: best effort, the namespace's is the one that counts."""
        if request.mode is None or not inode.flags & Flag.PERSISTED or inode.flags & Flag.MOUNT_POINT:
            return
        try:
            with self._core.reading() as view:
                found = resolve(view, request.path, SYSTEM)
            if found.mount is None or found.mount.read_only:
                return
            driver = await self._mounts.driver(found.mount)
            if driver.capabilities.set_mode:
                await self._pool.run("set_mode", driver.set_mode, os.fsdecode(found.relative), inode.mode)
        except OSError as error:
            log.warning("mode_not_pushed", path=os.fsdecode(request.path), error=str(error))


def _check_names(request: SetAttrRequest) -> None:
    """The names of placement policies, which the pure rules do not know. A path cannot name a host."""
    for given, all_known, what in (
        (request.placement, placement.POLICIES, "placement"),
        (request.read_placement, placement.READ_POLICIES, "read placement"),
    ):
        known = [name for name in all_known if name != "SPECIFIC_HOST"]
        if given and given not in known:
            raise InvalidArgumentError(
                f"a path has no {what} policy {given!r}: give one of {', '.join(known)}, or none"
            )
