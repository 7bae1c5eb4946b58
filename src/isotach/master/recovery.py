"""Intents that were left open are finished: those of a former life, and those of this one that a store failed.

Owns: redoing each kind, again and again until the store answers. Never: delays serving; only the paths concerned are
locked until their intent is done.

All go forward, however much of the change is done: what was to be removed is removed, what was to be renamed is
renamed. One is given up when its mount is gone, when the path is another file by now, or when store or namespace refuse
it for good; then the namespace takes in what the store shows. Refused credentials and a missing bucket may be put right
by somebody: they are waited for.
"""

import asyncio
import errno
import os
from typing import Final

from isotach.base.errors import UfsAuthError, UfsBucketMissingError, UfsError
from isotach.base.limits import RECOVERY_REFUSALS_MAX, RECOVERY_RETRY_S, RECOVERY_RETRY_S_MAX
from isotach.base.paths import split
from isotach.base.types import MountId
from isotach.master.commits import PERSIST, WRITE, Commits
from isotach.master.core import Core
from isotach.master.exchange import Exchange
from isotach.master.hard_links import promote
from isotach.master.identity import numbered
from isotach.master.mount_set import MountSet
from isotach.master.path_locks import PathLock, PathLocks
from isotach.master.store_operations import (
    EXCHANGE,
    MKDIR,
    PROMOTE,
    REMOVE,
    RENAME,
    StoreOperations,
    needs_parent,
    refresh_fingerprint,
    remove_in_store,
    rename_in_store,
)
from isotach.master.sync import Syncer
from isotach.master.ufs_pool import UfsPool
from isotach.namespace import intents
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.directories import make_directory
from isotach.namespace.first_attributes import Asked
from isotach.namespace.intents import Intent
from isotach.namespace.lookup import Missing, Resolved, resolve, try_resolve
from isotach.namespace.persist_queue import mark_directories_stored
from isotach.namespace.trees import Detached, detach, rename
from isotach.namespace.view import View
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsStatus, UnderStorage

log = get_logger("master.recovery")
_LAST_WORDS: Final = frozenset(
    {errno.ENOTEMPTY, errno.EXDEV, errno.EBUSY, errno.EINVAL, errno.EROFS, errno.ENAMETOOLONG, errno.ESTALE}
)


class Recovery:
    """One per master. For the event-loop thread."""

    def __init__(
        self,
        core: Core,
        *,
        mounts: MountSet,
        pool: UfsPool,
        locks: PathLocks,
        commits: Commits,
        operations: StoreOperations,
        syncer: Syncer,
        exchange: Exchange,
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._pool = pool
        self._locks = locks
        self._commits = commits
        self._operations = operations
        self._syncer = syncer
        self._exchange = exchange
        self._unsettled: dict[int, tuple[Intent, PathLock]] = {}

    async def begin(self) -> int:
        """Takes the locks of all open intents, then finishes them in the background. Returns how many there are. To be
        called before the first call is served."""
        with self._core.reading() as view:
            found = intents.open_intents(view)
        for intent_id, intent in found:
            log.info("intent_found", kind=intent.kind, path=os.fsdecode(intent.path), dst=os.fsdecode(intent.dst))
            if intent.kind == WRITE:
                self._core.background.spawn("reopen", self._commits.reopen(intent_id, intent))
            elif intent.kind == PERSIST and not intent.worker_id:  # an empty file: the queue still has it
                await self._drop(intent_id)
            elif intent.kind == PERSIST:  # the worker may live, and be about to change the store
                self._core.background.spawn("reopen", self._commits.reopen(intent_id, intent))
            else:
                self._core.background.spawn("recover", self._finish(intent_id, intent))
        await asyncio.sleep(0)  # now each of them holds its paths, or waits for another one to be done
        return len(found)

    def take_over(self, intent_id: int, intent: Intent, lock: PathLock | None) -> None:
        """An intent of this life whose outcome the store left unclear, with the lock that the change held, if it is to
        stay held until that is done."""
        if lock is None:
            self._core.background.spawn("recover", self._finish(intent_id, intent))
        else:
            heir = self._locks.hand_over(lock, "recovery")
            self._core.background.spawn("recover", self._until_done(intent_id, intent, heir, RECOVERY_RETRY_S))

    def let_go(self, mount_id: MountId) -> None:
        """The mount is about to go: its store, which may never answer again, holds up nobody any more."""
        for intent, lock in self._unsettled.values():
            if intent.mount_id == mount_id:
                self._locks.release(lock)

    async def _finish(self, intent_id: int, intent: Intent) -> None:
        paths = [path for path in (intent.path, intent.dst) if path]
        lock = await self._locks.acquire(*paths, owner="recovery")
        await self._until_done(intent_id, intent, self._locks.hand_over(lock, "recovery"), 0.0)

    async def _until_done(self, intent_id: int, intent: Intent, lock: PathLock, pause_s: float) -> None:
        """Tries until the store answers, after longer and longer pauses. The lock is released in any case."""
        refusals = 0
        self._unsettled[intent_id] = intent, lock
        try:
            while True:
                await asyncio.sleep(pause_s)
                pause_s = min(RECOVERY_RETRY_S_MAX, max(RECOVERY_RETRY_S, pause_s * 2))
                try:
                    if refusals < RECOVERY_REFUSALS_MAX:
                        await self._redo(intent_id, intent)
                    else:
                        await self._operations.take_in(intent, intent_id)
                except Exception as error:
                    path = os.fsdecode(intent.path)
                    refusals += self._weight(error, intent)
                    event = "intent_waits" if refusals < RECOVERY_REFUSALS_MAX else "intent_given_up"
                    log.warning(event, kind=intent.kind, path=path, error=str(error), again_in_s=pause_s)
                    continue
                return
        finally:
            del self._unsettled[intent_id]
            self._locks.release(lock)

    def _weight(self, error: Exception, intent: Intent) -> int:
        """How many refusals an error counts for: a store that is away will answer, a last word is a last word."""
        if isinstance(error, UfsAuthError | UfsBucketMissingError):
            return 0
        if isinstance(error, UfsError):
            driver = self._mounts.opened(intent.mount_id)
            return int(driver is not None and not driver.is_transient(error))
        return RECOVERY_REFUSALS_MAX if _is_last_word(error) else int(not isinstance(error, OSError))

    async def _redo(self, intent_id: int, intent: Intent) -> None:
        mount = self._mounts.table.get(intent.mount_id)
        if mount is None:
            await self._drop(intent_id)
            return
        driver = await self._mounts.driver(mount)
        with self._core.reading() as view:
            found = try_resolve(view, intent.path, SYSTEM)
            into = try_resolve(view, split(intent.dst)[0], SYSTEM) if intent.dst else None
        if (intent.kind != MKDIR or intent.file_id) and not _is_of(found, intent):
            await self._drop(intent_id)
            return
        if intent.kind == EXCHANGE:
            await self._go_on_exchanging(intent_id)
            return
        is_dir = isinstance(found, Missing) or found.inode.is_dir
        make_parent = isinstance(into, Resolved) and needs_parent(into)
        status = await self._pool.run(intent.kind.lower(), _in_store, driver, intent, is_dir, make_parent)

        def apply(view: View) -> Detached | None:
            detached = self._in_namespace(view, intent, status)
            intents.drop(view, intent_id)
            return detached

        detached = await self._core.pipeline.submit(apply)
        self._syncer.freshness.clear()  # of renamed and removed trees; and what was asked while the store was unclear
        if detached is not None:
            self._operations.detached(detached)
        if isinstance(found, Resolved):
            await self._operations.keep_emptied(found, intent.keep)
        log.info("intent_finished", kind=intent.kind, path=os.fsdecode(intent.path))

    async def _go_on_exchanging(self, intent_id: int) -> None:
        """From the step that is on record by now."""
        with self._core.reading() as view:
            intent = intents.get(view, intent_id)
        if intent is not None:
            await self._exchange.go_on(intent_id, intent)
            self._syncer.freshness.clear()
            log.info("intent_finished", kind=intent.kind, path=os.fsdecode(intent.path))

    def _in_namespace(self, view: View, intent: Intent, status: UfsStatus | None) -> Detached | None:
        """The user was never answered, but was allowed to do it: it is finished as the user."""
        now_ns = self._core.clock.now_ns()
        actor = numbered(Actor(intent.user, frozenset(intent.groups), intent.superuser))
        if intent.kind == MKDIR:
            make_directory(
                view, intent.path, _asked(intent), intent.parents, True, actor, now_ns, self._core.ids, persisted=True
            )
            return None
        found = try_resolve(view, intent.path, SYSTEM)
        if isinstance(found, Missing) or not _is_of(found, intent):
            return None
        if intent.kind == PROMOTE:
            promote(view, intent.file_id, intent.dst, status, now_ns)
            return None
        if intent.kind == REMOVE:
            if intent.version and found.inode.version != intent.version:
                return None  # written anew since, and not persisted: only what was stored before is removed
            return detach(view, intent.path, intent.recursive, actor, now_ns)
        done = rename(view, intent.path, intent.dst, intent.replace, actor, now_ns)
        refresh_fingerprint(view, done.inode, status, now_ns)
        mark_directories_stored(view, resolve(view, split(intent.dst)[0], SYSTEM).inode.id, done.inode.mount_id)
        replaced = done.replaced
        return None if replaced is None else Detached(replaced, intent.dst, freed=done.freed)

    async def _drop(self, intent_id: int) -> None:
        await self._core.pipeline.submit(lambda view: intents.drop(view, intent_id))


def _asked(intent: Intent) -> Asked:
    return Asked(intent.mode, intent.owner, intent.group, intent.umask)


def _is_of(found: Resolved | Missing, intent: Intent) -> bool:
    return isinstance(found, Resolved) and found.inode.id == intent.file_id


def _is_last_word(error: Exception) -> bool:
    """Whether trying again will not help, as far as anybody can say."""
    if not isinstance(error, OSError):
        return False
    final = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
    return isinstance(error, final) or error.errno in _LAST_WORDS


def _in_store(driver: UnderStorage, intent: Intent, is_dir: bool, make_parent: bool) -> UfsStatus | None:
    """Blocking: each of these may have been done already, wholly or in part."""
    path = os.fsdecode(intent.ufs_path)
    if intent.kind == MKDIR:
        driver.mkdir(path)
    elif intent.kind in (RENAME, PROMOTE):
        return rename_in_store(driver, path, os.fsdecode(intent.ufs_dst), is_dir, make_parent, intent.keep)
    elif intent.kind == REMOVE:
        remove_in_store(driver, path, is_dir, intent.recursive, intent.keep)
    return None
