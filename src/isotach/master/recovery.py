"""After a restart: the intents that a former life left open are finished.

Owns: redoing each kind. Never: delays serving; only the paths concerned are locked until their intent is done.
"""

import asyncio
import errno
import os

from isotach.base.errors import UfsError
from isotach.master.commits import PERSIST, WRITE, Commits
from isotach.master.core import Core
from isotach.master.mount_set import MountSet
from isotach.master.path_locks import PathLocks
from isotach.master.store_operations import (
    MKDIR,
    REMOVE,
    RENAME,
    StoreOperations,
    refresh_fingerprint,
    remove_in_store,
    rename_in_store,
)
from isotach.master.ufs_pool import UfsPool
from isotach.namespace import intents
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.directories import make_directory
from isotach.namespace.intents import Intent
from isotach.namespace.lookup import Missing, try_resolve
from isotach.namespace.trees import Detached, detach, rename
from isotach.namespace.view import View
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsStatus, UnderStorage

log = get_logger("master.recovery")
_RETRY_S = 10.0


class Recovery:
    """Used once, at start."""

    def __init__(
        self,
        core: Core,
        *,
        mounts: MountSet,
        pool: UfsPool,
        locks: PathLocks,
        commits: Commits,
        operations: StoreOperations,
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._pool = pool
        self._locks = locks
        self._commits = commits
        self._operations = operations

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

    async def _finish(self, intent_id: int, intent: Intent) -> None:
        """Tries until the store answers."""
        paths = [path for path in (intent.path, intent.dst) if path]
        lock = await self._locks.acquire(*paths, owner="recovery")
        try:
            while True:
                try:
                    await self._redo(intent_id, intent)
                except OSError as error:
                    if not _can_never_be_done(error):
                        log.warning("intent_waits", kind=intent.kind, path=os.fsdecode(intent.path), error=str(error))
                        await asyncio.sleep(_RETRY_S)
                        continue
                    log.warning("intent_given_up", kind=intent.kind, path=os.fsdecode(intent.path), error=str(error))
                    await self._drop(intent_id)
                return
        finally:
            self._locks.release(lock)

    async def _redo(self, intent_id: int, intent: Intent) -> None:
        mount = self._mounts.table.get(intent.mount_id)
        if mount is None:
            await self._drop(intent_id)
            return
        driver = await self._mounts.driver(mount)
        with self._core.reading() as view:
            found = try_resolve(view, intent.path, SYSTEM)
        if intent.kind != MKDIR and (isinstance(found, Missing) or found.inode.id != intent.file_id):
            await self._drop(intent_id)
            return
        is_dir = isinstance(found, Missing) or found.inode.is_dir
        status = await self._pool.run(intent.kind.lower(), _in_store, driver, intent, is_dir)

        def apply(view: View) -> Detached | None:
            detached = self._in_namespace(view, intent, status)
            intents.drop(view, intent_id)
            return detached

        detached = await self._core.pipeline.submit(apply)
        if detached is not None:
            self._operations.detached(detached)
        log.info("intent_finished", kind=intent.kind, path=os.fsdecode(intent.path))

    def _in_namespace(self, view: View, intent: Intent, status: UfsStatus | None) -> Detached | None:
        """The user was never answered, but was allowed to do it: it is finished as the user."""
        now_ns = self._core.clock.now_ns()
        actor = Actor(intent.user, frozenset(intent.groups), intent.superuser)
        if intent.kind == MKDIR:
            make_directory(
                view, intent.path, intent.mode, intent.parents, True, actor, now_ns, self._core.ids, persisted=True
            )
            return None
        found = try_resolve(view, intent.path, SYSTEM)
        if isinstance(found, Missing) or found.inode.id != intent.file_id:
            return None
        if intent.kind == REMOVE:
            return detach(view, intent.path, intent.recursive, actor, now_ns)
        done = rename(view, intent.path, intent.dst, intent.replace, actor, now_ns)
        refresh_fingerprint(view, done.inode, status, now_ns)
        replaced = done.replaced
        return None if replaced is None else Detached(replaced, intent.dst)

    async def _drop(self, intent_id: int) -> None:
        await self._core.pipeline.submit(lambda view: intents.drop(view, intent_id))


def _can_never_be_done(error: OSError) -> bool:
    if isinstance(error, UfsError):
        return False
    final = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
    return isinstance(error, final) or error.errno == errno.ENOTEMPTY


def _in_store(driver: UnderStorage, intent: Intent, is_dir: bool) -> UfsStatus | None:
    """Blocking: each of these may have been done already, wholly or in part."""
    path = os.fsdecode(intent.ufs_path)
    if intent.kind == MKDIR:
        driver.mkdir(path)
    elif intent.kind == RENAME:
        return rename_in_store(driver, path, os.fsdecode(intent.ufs_dst), is_dir, False, intent.keep)
    elif intent.kind == REMOVE:
        remove_in_store(driver, path, is_dir, intent.recursive, intent.keep)
    return None
