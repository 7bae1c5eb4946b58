"""What stays in the cache because a user said so: FREE, on one file or on all below a path.

Owns: choosing which files may be freed (persisted, not pinned) and waiting for the workers. Never: frees what no store
holds.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from isotach.base.errors import UnavailableError
from isotach.base.limits import FREE_WAIT_S, WALK_SLICE_ENTRIES
from isotach.base.types import Flag, Inode, Version, WorkerId
from isotach.master.core import Core
from isotach.master.locations import Locations
from isotach.master.sync import Syncer
from isotach.master.workers import WorkerRegistry
from isotach.namespace import entries, permissions
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.lookup import inode_of, location_of, resolve
from isotach.namespace.ttl import Expired
from isotach.namespace.view import View
from isotach.namespace.walk import walk
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.messages import CountReply, PathRequest

log = get_logger("master.residency")


class Residency:
    """One per master. For the event-loop thread."""

    def __init__(self, core: Core, syncer: Syncer, locations: Locations, workers: WorkerRegistry) -> None:
        self._core = core
        self._syncer = syncer
        self._locations = locations
        self._workers = workers

    async def free(self, request: PathRequest, peer: Peer) -> CountReply:
        """The handler: drops cached pages, on every worker, and waits (bounded) until they are gone. Counts the files
        freed; those that are not persisted, or pinned, are skipped."""
        count = skipped = 0
        await self._syncer.load(request.path)
        async for files in self.files_below(request.path, self._core.identity.actor(peer), request.recursive):
            may_go = [inode for inode in files if _may_be_freed(inode)]
            skipped += len(files) - len(may_go)
            count += len(may_go)
            await self._free_all(may_go)
        return CountReply(count, skipped)

    async def files_below(self, path: bytes, actor: Actor, recursive: bool) -> AsyncIterator[list[Inode]]:
        """The file at `path`, or the files in the directory (all below it when `recursive`), in slices."""
        with self._core.reading() as view:
            top = resolve(view, path, actor, permissions.READ).inode
        if not top.is_dir:
            yield [top]
            return
        next_key: bytes | None = b""
        while next_key is not None:
            with self._core.reading() as view:
                seen = walk(view, top.id, next_key, WALK_SLICE_ENTRIES)
            next_key = seen.next_key
            yield [
                entry.inode
                for entry in seen.entries
                if not entry.inode.is_dir and (recursive or entry.parent_id == top.id)
            ]

    async def free_expired(self, expired: Expired) -> None:
        """The FREE action of a time to live, which ends with it."""

        def stop(view: View) -> None:
            inode = inode_of(view, expired.file_id)
            if inode.expires_ms == expired.inode.expires_ms:
                after = msgspec.structs.replace(inode, ttl_ms=-1, expires_ms=-1)
                entries.store(view, *location_of(view, expired.file_id), inode, after)

        if expired.inode.is_dir:
            async for files in self.files_below(expired.path, SYSTEM, True):
                await self._free_all([inode for inode in files if _may_be_freed(inode)])
        elif _may_be_freed(expired.inode):
            await self._free_all([expired.inode])
        await self._core.pipeline.submit(stop)

    async def _free_all(self, files: list[Inode]) -> None:
        tasks = [
            self._core.background.spawn("free", self._free_one(holder.worker_id, inode.version))
            for inode in files
            for holder in self._locations.holders(inode.version)
        ]
        if tasks:
            await asyncio.wait(tasks)

    async def _free_one(self, worker_id: WorkerId, version: Version) -> None:
        """A worker that is lost holds nothing; one that does not answer in time is told again by its queue."""
        try:
            result = await self._workers.ask(worker_id, "FREE", version, FREE_WAIT_S)
        except (UnavailableError, TimeoutError) as error:
            log.info("free_not_answered", worker=worker_id, error=str(error))
            return
        if result.ok:  # its own report follows; until then nobody shall look for the bytes there
            await self._locations.report(worker_id, [], [version])


def _may_be_freed(inode: Inode) -> bool:
    return bool(inode.flags & Flag.PERSISTED) and not inode.flags & Flag.PINNED
