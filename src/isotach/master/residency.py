"""What stays in the cache because a user said so: FREE, on one file or on all below a path.

Owns: choosing which files may be freed (persisted, not pinned) and telling the workers, thousands at a time. Never:
frees what no store holds.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from isotach.base.limits import FREE_SLICE_FILES, FREE_WAIT_S
from isotach.base.types import FileId, Flag, Inode, Version, WorkerId
from isotach.master.core import Core
from isotach.master.locations import Locations
from isotach.master.sync import Syncer
from isotach.master.workers import WorkerRegistry
from isotach.namespace import entries, permissions, policies
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.lookup import children, inode_of, location_of, resolve
from isotach.namespace.policies import is_memory_only
from isotach.namespace.symlinks import refuse_symlink
from isotach.namespace.ttl import Expired
from isotach.namespace.view import View
from isotach.namespace.walk import walk
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.messages import CommandResult, CountReply, PathRequest

log = get_logger("master.residency")


class Residency:
    """One per master. For the event-loop thread."""

    def __init__(self, core: Core, syncer: Syncer, locations: Locations, workers: WorkerRegistry) -> None:
        self._core = core
        self._syncer = syncer
        self._locations = locations
        self._workers = workers
        #: Queues files for their under storages (see `Persistence.queue`); tied in `services`.
        self.persist_soon: Callable[[list[Inode]], Awaitable[object]] = _nobody

    async def free(self, request: PathRequest, peer: Peer) -> CountReply:
        """The handler: drops cached pages, on every worker, and waits (bounded) until they are gone. Counts the files
        freed; those that are not persisted, pinned, or kept by a replication minimum, are skipped. With `force` pins
        and minimums end, as in Alluxio; nothing makes it free what no store holds."""
        count = unpersisted = kept = 0
        await self._syncer.load(request.path)
        deaf: set[WorkerId] = set()
        async for files in self.files_below(request.path, self._core.identity.actor(peer), request.recursive):
            stored = [inode for inode in files if inode.flags & Flag.PERSISTED]
            may_go = [inode for inode in stored if not _is_kept(inode)]
            unpersisted += len(files) - len(stored)
            if request.force and len(may_go) < len(stored):
                held = [inode for inode in stored if _is_kept(inode)]
                await self._core.pipeline.submit(lambda view, held=held: _let_go(view, held))  # type: ignore[misc]
                may_go = stored
            kept += len(stored) - len(may_go)
            count += len(may_go)
            await self._free_all(may_go, deaf)
        return CountReply(count, unpersisted + kept, unpersisted, kept)

    async def files_below(self, path: bytes, actor: Actor, recursive: bool) -> AsyncIterator[list[Inode]]:
        """The file at `path`, or the files in the directory (all below it when `recursive`), in slices."""
        with self._core.reading() as view:
            top = resolve(view, path, actor, permissions.READ).inode
        refuse_symlink(top, path)
        if not top.is_dir:
            yield [top] if top.is_file else []
            return
        next_key: bytes | None = b""
        while next_key is not None:
            with self._core.reading() as view:
                if recursive:
                    seen = walk(view, top.id, next_key, FREE_SLICE_FILES)
                    inodes, next_key = [entry.inode for entry in seen.entries], seen.next_key
                else:
                    rows = list(children(view, top.id, next_key, FREE_SLICE_FILES))
                    inodes = [inode for _, inode in rows]
                    next_key = rows[-1][0] if len(rows) == FREE_SLICE_FILES else None
            yield [inode for inode in inodes if inode.is_file]
            await asyncio.sleep(0)  # others have their turn between slices

    async def free_expired(self, expired: Expired) -> bool:
        """The FREE action of a time to live, which ends with it. What is not persisted is queued for its store first:
        False then, for the action must be tried again. Memory-only data stays: it has no other copy."""
        missing: list[Inode] = []
        deaf: set[WorkerId] = set()
        async for files in self.files_below(expired.path, SYSTEM, True):
            await self._free_all([inode for inode in files if _may_be_freed(inode)], deaf)
            waiting = [inode for inode in files if not inode.flags & Flag.PERSISTED and not is_memory_only(inode)]
            await self.persist_soon([inode for inode in waiting if not inode.flags & Flag.TO_PERSIST])
            missing = missing or waiting
        if missing:
            return False
        await self._core.pipeline.submit(lambda view: _end_ttl(view, expired.file_id, expired.inode.expires_ms))
        return True

    async def _free_all(self, files: Sequence[Inode], deaf: set[WorkerId]) -> None:
        """Tells all holders at once and waits until they have done it. A worker that does not answer in time is put
        among the `deaf`: it is still told, and told again by its queue, but no longer waited for."""
        asked: dict[asyncio.Future[CommandResult], tuple[WorkerId, Version]] = {}
        for inode in files:
            for holder in self._locations.holders(inode.version):
                answer = self._workers.post(holder.worker_id, "FREE", inode.version)
                answer.add_done_callback(_seen)
                if holder.worker_id not in deaf:
                    asked[answer] = (holder.worker_id, inode.version)
        if not asked:
            return
        done, late = await asyncio.wait(asked, timeout=FREE_WAIT_S)
        for worker_id in {asked[answer][0] for answer in late}:
            deaf.add(worker_id)
            log.info("free_not_answered", worker=worker_id)
        gone: dict[WorkerId, list[Version]] = defaultdict(list)
        for answer in done:
            if answer.exception() is None and answer.result().ok:
                worker_id, version = asked[answer]
                gone[worker_id].append(version)
        for worker_id, versions in gone.items():
            # Its own report follows; until then nobody shall look for the bytes there.
            await self._locations.remove(worker_id, versions)


def _is_kept(inode: Inode) -> bool:
    return bool(inode.flags & Flag.PINNED) or (inode.policy is not None and inode.policy.replication_min > 0)


def _may_be_freed(inode: Inode) -> bool:
    return bool(inode.flags & Flag.PERSISTED) and not _is_kept(inode)


def _let_go(view: View, files: list[Inode]) -> None:
    """Ends the pins and replication minimums of files that are freed by force."""
    for seen in files:
        try:
            inode = inode_of(view, seen.id)
        except FileNotFoundError:
            continue
        policy = inode.rules
        after = msgspec.structs.replace(
            inode,
            flags=int(inode.flags & ~Flag.PINNED),
            policy=policies.compact(msgspec.structs.replace(policy, replication_min=0)),
        )
        entries.store(view, *location_of(view, inode.id), inode, after)


def _end_ttl(view: View, file_id: FileId, expires_ms: int) -> None:
    """Unless it was set anew meanwhile."""
    inode = inode_of(view, file_id)
    if inode.expires_ms == expires_ms:
        after = msgspec.structs.replace(inode, ttl_ms=-1, expires_ms=-1)
        entries.store(view, *location_of(view, file_id), inode, after)


def _seen(answer: asyncio.Future[CommandResult]) -> None:
    """So that the failure of an answer that nobody waits for any more is no news to the loop."""
    if not answer.cancelled():
        answer.exception()


async def _nobody(_files: list[Inode]) -> None:
    return
