"""PERSIST and PERSIST_STATUS: what users ask of persistence, on a file or on all below a path.

Owns: walking the subtree, waiting for it slice by slice, and telling how far it is. Never: schedules (`persistence.py`
does), or keeps anything per file beyond one slice: a subtree may have millions.
"""

import asyncio
import errno
import os

from isotach.base.errors import InvalidArgumentError, IsotachError, UfsError, told
from isotach.base.types import Flag, Inode
from isotach.master.core import Core
from isotach.master.persist_tickets import PersistTicket
from isotach.master.persistence import Persistence
from isotach.master.residency import Residency
from isotach.master.sync import Syncer
from isotach.namespace import persist_queue
from isotach.namespace.actor import Actor
from isotach.namespace.lookup import path_of, resolve
from isotach.namespace.policies import is_memory_only
from isotach.net.peer import Peer
from isotach.wire.messages import CountReply, PersistRequest, PersistStatusReply, PersistStatusRequest


class PersistRequests:
    """One per master. For the event-loop thread."""

    def __init__(self, core: Core, persistence: Persistence, residency: Residency, syncer: Syncer) -> None:
        self._core = core
        self._persistence = persistence
        self._residency = residency
        self._syncer = syncer

    async def persist(self, request: PersistRequest, peer: Peer) -> CountReply:
        """The handler: queues what is not in its store, all of it durably before anything is waited for. With `wait`
        raises what the file failed with, or UfsError with the number of failures; what failed stays queued
        nevertheless. Memory-only files are left alone and counted as skipped; InvalidArgumentError when `path` is
        one."""
        await self._syncer.load(request.path)
        actor = self._core.identity.actor(peer)
        ticket = self._persistence.tickets.open(request.ticket, request.path)
        skipped = 0
        try:
            async for files in self._residency.files_below(request.path, actor, True):
                wanted = [inode for inode in files if not inode.flags & Flag.PERSISTED]
                ticket.total += len(await self._persistence.queue(wanted))
                skipped += sum(map(is_memory_only, wanted))
            if skipped and not ticket.total:
                self._refuse_memory_only(request.path, actor)
            if request.wait:
                await _Wait(self._core, self._persistence, ticket).wait_for_all(self._residency, actor)
        finally:
            ticket.finished = True
        return CountReply(ticket.total, skipped)

    def status(self, request: PersistStatusRequest, _peer: Peer) -> PersistStatusReply:
        """The handler of PERSIST_STATUS; see `PersistStatusReply`."""
        return self._persistence.tickets.status(request.ticket)

    def _refuse_memory_only(self, path: bytes, actor: Actor) -> None:
        with self._core.reading() as view:
            if not resolve(view, path, actor).inode.is_dir:
                raise InvalidArgumentError(f"{os.fsdecode(path)} is memory-only: it must not be written out")


class _Wait:
    """Waiting for everything below one path, in the order of the walk, which is the order of the queue."""

    def __init__(self, core: Core, persistence: Persistence, ticket: PersistTicket) -> None:
        self._core = core
        self._persistence = persistence
        self._ticket = ticket
        self._failed = 0
        self._first: tuple[Inode, Exception] | None = None

    async def wait_for_all(self, residency: Residency, actor: Actor) -> None:
        async for files in residency.files_below(self._ticket.path, actor, True):
            await self._wait_for(files)
        if self._first is None:
            return
        inode, error = self._first
        if self._failed == 1 and self._ticket.total == 1:
            raise error
        raise UfsError(
            errno.EIO,
            f"{self._failed} of {self._ticket.total} files could not be persisted so far; they stay queued and are "
            f"tried again. The first is {self._name(inode)}: {told(error)}",
            os.fsdecode(self._ticket.path),
        )

    async def _wait_for(self, files: list[Inode]) -> None:
        waits: list[tuple[Inode, asyncio.Future[None]]] = []
        with self._core.reading() as view:
            waiting = [inode for inode in files if persist_queue.find(view, inode.id) is not None]
        for inode in waiting:
            trouble = self._persistence.trouble(inode.mount_id)
            if trouble is not None:
                self._note(inode, trouble)
            else:
                waits.append((inode, self._persistence.wait_for(inode.id)))
        for inode, wait in waits:
            try:
                await wait
            except (OSError, IsotachError) as error:
                self._note(inode, error)

    def _name(self, inode: Inode) -> str:
        try:
            with self._core.reading() as view:
                return os.fsdecode(path_of(view, inode.id))
        except FileNotFoundError:
            return f"a file that was removed since ({inode.id})"

    def _note(self, inode: Inode, error: Exception) -> None:
        self._failed += 1
        self._first = self._first or (inode, error)
