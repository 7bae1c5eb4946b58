"""Two entries that change places, in the namespace at once and in the under storage step by step.

Owns: the order of the store's renames, and going on with them. Never: leaves the store between two steps without a
record of which are done: each step is a commit, so that a restart knows whether a name that is not there was moved
already. The namespace changes with the last of them. What the store does not have needs no step at all.
"""

import os
import secrets
from typing import Final

import msgspec

from isotach.base.failpoints import fail_at
from isotach.base.paths import split
from isotach.base.types import Flag
from isotach.master.core import Core
from isotach.master.mount_set import MountSet
from isotach.master.path_locks import PathLock, PathLocks
from isotach.master.store_operations import (
    EXCHANGE,
    StoreOperations,
    is_here_only,
    is_unclear,
    may_take_effect,
    needs_parent,
    refresh_fingerprint,
    rename_in_store,
)
from isotach.master.sync import Syncer
from isotach.master.ufs_pool import UfsPool
from isotach.namespace import intents
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.intents import Intent
from isotach.namespace.lookup import Resolved, resolve
from isotach.namespace.persist_queue import mark_directories_stored
from isotach.namespace.trees import exchange
from isotach.namespace.view import View
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsStatus, UnderStorage
from isotach.wire.messages import InodeReply, RenameRequest

log = get_logger("master.exchange")
_ASIDE: Final = b".isotach-exchange-"


class Exchange:
    """One per master. For the event-loop thread."""

    def __init__(
        self,
        core: Core,
        *,
        mounts: MountSet,
        pool: UfsPool,
        locks: PathLocks,
        syncer: Syncer,
        operations: StoreOperations,
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._pool = pool
        self._locks = locks
        self._syncer = syncer
        self._operations = operations
        operations.exchange = self.exchange

    async def exchange(self, request: RenameRequest, actor: Actor) -> InodeReply:
        """Replies what is at `dst` afterwards, as a rename does. See `namespace.trees.exchange` for errors."""
        src, dst = request.src, request.dst
        await self._syncer.load(src)
        await self._syncer.load(dst)
        async with self._locks.hold(src, dst, owner="exchange") as lock:
            with self._core.reading() as view:
                one, other = resolve(view, src, actor), resolve(view, dst, actor)
                moves = _moves(view, one, other)
                is_same = one.inode.id == other.inode.id
                exchange(view, src, dst, actor, self._core.clock.now_ns())  # a rehearsal
            if is_same:
                return InodeReply(one.inode)
            if moves and one.mount is not None:
                intent = self._operations.intent(EXCHANGE, actor, src, one.mount.mount_id, os.fsdecode(one.relative))
                known = msgspec.structs.replace(
                    intent, dst=dst, ufs_dst=other.relative, file_id=one.inode.id, moves=moves
                )
                await self._carry_out(known, lock)
            else:
                now_ns = self._core.clock.now_ns()
                await self._core.pipeline.submit(lambda view: exchange(view, src, dst, actor, now_ns))
            self._syncer.freshness.clear()  # what is known to be absent was known of other paths
        return InodeReply(msgspec.structs.replace(one.inode, ctime_ns=self._core.clock.now_ns()))

    async def _carry_out(self, intent: Intent, lock: PathLock) -> None:
        intent_id = await self._core.pipeline.submit(lambda view: intents.put(view, intent, self._core.ids))
        try:
            await self.go_on(intent_id, intent)
        except OSError as error:
            with self._core.reading() as view:
                left = intents.get(view, intent_id)
            if left is None:
                raise
            if not is_unclear(error) and await self._taken_back(left):
                await self._core.pipeline.submit(lambda view: intents.drop(view, intent_id))
                raise
            log.warning("intent_left_open", kind=EXCHANGE, path=os.fsdecode(intent.path), error=str(error))
            self._operations.finish_later(intent_id, left, lock)
            raise may_take_effect(error) from error

    async def go_on(self, intent_id: int, intent: Intent) -> None:
        """Does what is left of it; the step that a crash may have cut off is done again. Also for `recovery.py`."""
        driver = await self._mounts.driver(self._mounts.table[intent.mount_id])
        await self._pool.run("mkdir", self._make_parents, driver, intent)
        for step in range(intent.step, len(intent.moves)):
            await self._pool.run("rename", _move, driver, *intent.moves[step])
            fail_at("master.exchange_moved")
            intent = msgspec.structs.replace(intent, step=step + 1)
            known = intent
            await self._core.pipeline.submit(
                lambda view, known=known: intents.advance(view, intent_id, known)  # type: ignore[misc]
            )
            fail_at("master.exchange_step")
        places = [os.fsdecode(path) for path in (intent.ufs_path, intent.ufs_dst)]
        statuses = await self._pool.run("stat", _statuses, driver, places)
        await self._core.pipeline.submit(lambda view: self._in_namespace(view, intent_id, intent, statuses))

    def _make_parents(self, driver: UnderStorage, intent: Intent) -> None:
        """Blocking. A folder may never have been made for what was only queued."""
        if driver.capabilities.object_store:
            return
        for path in {split(b"/" + place)[0] for place in (intent.ufs_path, intent.ufs_dst)}:
            if path != b"/":
                driver.mkdir(os.fsdecode(path[1:]))

    def _in_namespace(self, view: View, intent_id: int, intent: Intent, statuses: list[UfsStatus | None]) -> None:
        """The user was allowed to do it when it began."""
        now_ns = self._core.clock.now_ns()
        now_here, now_there = exchange(view, intent.path, intent.dst, SYSTEM, now_ns)
        for inode, status in zip((now_here, now_there), statuses, strict=True):
            refresh_fingerprint(view, inode, status, now_ns)
        for path in (intent.path, intent.dst):
            into = resolve(view, split(path)[0], SYSTEM)
            if needs_parent(into):
                mark_directories_stored(view, into.inode.id, into.inode.mount_id)
        intents.drop(view, intent_id)

    async def _taken_back(self, intent: Intent) -> bool:
        """Undoes the steps that are done, after the store refused one; whether it could."""
        driver = await self._mounts.driver(self._mounts.table[intent.mount_id])
        try:
            for source, target in reversed(intent.moves[: intent.step]):
                await self._pool.run("rename", _move, driver, target, source)
        except OSError as error:
            log.warning("exchange_not_taken_back", path=os.fsdecode(intent.path), error=str(error))
            return False
        return True


def _moves(view: View, one: Resolved, other: Resolved) -> list[tuple[bytes, bytes]]:
    """The renames in the store, which has neither of them, one, or both; or an older content of a file whose present
    one is only here: that stays under the file's name, in no one's way."""
    here, there = one.relative, other.relative
    stored = [not is_here_only(view, each) for each in (one, other)]
    if not any(stored):
        return []
    older = [not has and not each.inode.flags & Flag.UNSTORED for has, each in zip(stored, (one, other), strict=True)]
    if not all(stored) and not any(older):
        return [(here, there)] if stored[0] else [(there, here)] if stored[1] else []
    parent = b"/".join(there.split(b"/")[:-1])
    name = _ASIDE + secrets.token_hex(8).encode()
    aside = parent + b"/" + name if parent else name
    return [(here, aside), (there, here), (aside, there)]


def _move(driver: UnderStorage, source: bytes, target: bytes) -> None:
    """Blocking. A directory that was never stored is not there, and then has nothing to be moved."""
    rename_in_store(driver, os.fsdecode(source), os.fsdecode(target), True, False, False)


def _statuses(driver: UnderStorage, places: list[str]) -> list[UfsStatus | None]:
    """Blocking: what an object store's copies are known by now."""
    if not driver.capabilities.object_store:
        return [None, None]
    found: list[UfsStatus | None] = []
    for place in places:
        try:
            found.append(driver.stat(place))
        except FileNotFoundError:
            found.append(None)
    return found
