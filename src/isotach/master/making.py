"""MAKE: entries that are there at once, with one commit.

Owns: asking the under storage first where only it may know, and the write that begins with a file. Never: writes to a
store: an empty file that gets no content is persisted later, by the queue.
"""

import asyncio
from collections.abc import Callable

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import EMPTY_PERSIST_DELAY_S
from isotach.base.paths import split
from isotach.base.types import Flag, Kind, WriteType
from isotach.master.commits import Commits
from isotach.master.core import Core
from isotach.master.sync import Syncer
from isotach.master.writes import Writes
from isotach.namespace import making
from isotach.namespace.actor import Actor
from isotach.namespace.symlinks import refuse_symlink
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.wire.messages import MakeReply, MakeRequest


class Making:
    """One per master. For the event-loop thread."""

    def __init__(self, core: Core, *, syncer: Syncer, commits: Commits, writes: Writes) -> None:
        self._core = core
        self._syncer = syncer
        self._commits = commits
        self._writes = writes
        self._waking: asyncio.TimerHandle | None = None
        #: Lets the queue of persistence look again; set by that service.
        self.wake_persistence: Callable[[], None] = _nothing

    async def make(self, request: MakeRequest, peer: Peer) -> MakeReply:
        """The handler. See `namespace.making` for errors; UnavailableError when too many writes are under way."""
        actor = self._core.identity.actor(peer)
        making.check_kind(request, actor)
        if request.write and request.kind != Kind.FILE:
            raise InvalidArgumentError("only a file is written to: leave `write` out")
        to_persist = request.write_type not in ("", WriteType.MUST_CACHE)
        await self._commits.settled(request.path)
        done = await self._make_unasked(request, actor, to_persist)
        if done is None:
            known = await self._look(request, actor)
            if known.found is None:
                done = await self._core.pipeline.submit(self._maker(request, actor, to_persist))
            else:
                done = making.Made(known.found, made=False)
        if done.made and done.found.inode.flags & Flag.TO_PERSIST:
            self._wake_later()
        if not done.made:
            refuse_symlink(done.found.inode, done.found.path)
        inode = done.found.inode
        created = self._writes.grant_for(done.found, request, peer) if request.write and inode.is_file else None
        return MakeReply(inode, done.made, created)

    async def _make_unasked(self, request: MakeRequest, actor: Actor, to_persist: bool) -> making.Made | None:
        """At once, where no under storage can know better; None: look."""
        make = self._maker(request, actor, to_persist)

        def try_it(view: View) -> making.Made | None:
            try:
                plan = making.plan_make(view, request, actor)
            except FileNotFoundError:
                return None
            if plan.missing is not None and not self._syncer.knows_all_beside(plan.missing):
                return None
            return make(view, plan)

        return await self._core.pipeline.submit(try_it)

    def _maker(self, request: MakeRequest, actor: Actor, to_persist: bool) -> Callable[..., making.Made]:
        now_ns, ids = self._core.clock.now_ns(), self._core.ids
        return lambda view, plan=None: making.make_entry(view, request, actor, to_persist, now_ns, ids, plan)

    def _wake_later(self) -> None:
        """Once the first of the files made lately has waited for its content long enough; one timer for all."""
        if self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(EMPTY_PERSIST_DELAY_S, self._wake)

    def _wake(self) -> None:
        self._waking = None
        self.wake_persistence()

    async def _look(self, request: MakeRequest, actor: Actor) -> making.MakePlan:
        """What the namespace says; where only the under storage may know better, it is asked first."""
        try:
            with self._core.reading() as view:
                plan = making.plan_make(view, request, actor)
        except FileNotFoundError:
            await self._syncer.ensure_current(split(request.path)[0])
            with self._core.reading() as view:
                plan = making.plan_make(view, request, actor)
        if plan.found is not None:
            return plan
        if request.exclusive or request.kind != Kind.FILE:
            await self._syncer.ensure_current(request.path)
        else:
            await self._syncer.learn(request.path)
        with self._core.reading() as view:
            return making.plan_make(view, request, actor)


def _nothing() -> None:
    return
