"""mkdir, rename and remove: changes of the namespace that an under storage must take part in.

Owns: their order. Never: holds up the writer (it only records), or talks to a store without an intent on record.

    lock the paths -> check on the present state -> record the intent -> change the store
                   -> change the namespace and drop the intent in one batch -> unlock

When the store refuses, the namespace stays as it was and the user gets the error. When the namespace refuses after the
store agreed (somebody put a file into the directory in between), it takes in what the store now shows.

When the store fails (busy, silent, unreachable), part of the change may be done: an object store renames and removes a
directory key by key. Then the user gets the error at once, the namespace stays as it was, and the intent and the lock
go to `recovery.py`, which goes on in the background until the store answers. It goes forward always, whichever part was
done, just as it does with the intents that a crash left open: a directory is made, what was to be removed is removed,
what was to be renamed is renamed (all of these can be done twice). Until then whoever wants these paths waits for them,
for PATH_WAIT_S at most; what the namespace knows of them is answered as before.
"""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec.structs import replace

from isotach.base.errors import UfsAuthError, UfsBucketMissingError, UfsError, told
from isotach.base.failpoints import fail_at
from isotach.base.paths import split
from isotach.base.types import Flag, Inode
from isotach.master.core import Core
from isotach.master.freeing import Freeing
from isotach.master.mount_set import MountSet
from isotach.master.path_locks import PathLock, PathLocks
from isotach.master.sync import Syncer
from isotach.master.ufs_pool import UfsPool
from isotach.namespace import intents
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.directories import Made, make_directory
from isotach.namespace.intents import Intent
from isotach.namespace.link_names import is_further_name
from isotach.namespace.lookup import Missing, Resolved, entry_at, is_empty, list_children, resolve, try_resolve
from isotach.namespace.persist_queue import mark_directories_stored, mark_persisted
from isotach.namespace.trees import Detached, Renamed, detach, rename
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsStatus, UnderStorage
from isotach.wire.messages import CountReply, InodeReply, MkdirRequest, RemoveRequest, RenameRequest

log = get_logger("master.store_operations")
MKDIR = "MKDIR"
RENAME = "RENAME"
REMOVE = "REMOVE"
PROMOTE = "PROMOTE"
EXCHANGE = "EXCHANGE"
T = TypeVar("T")
Stored = TypeVar("Stored")


class StoreOperations:
    """One per master. For the event-loop thread."""

    def __init__(
        self, core: Core, *, mounts: MountSet, pool: UfsPool, locks: PathLocks, syncer: Syncer, freeing: Freeing
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._pool = pool
        self._locks = locks
        self._syncer = syncer
        self._freeing = freeing
        #: Told that a tree waits for reclaim; set by the reclaim service.
        self.wake_reclaim: Callable[[], None] = _nothing
        #: Called before an entry goes: makes files with other names independent of it; set by the service of links.
        self.give_way: Callable[[bytes], Awaitable[None]] = _nobody_gives_way
        #: Carries out a rename that exchanges; set by that service.
        self.exchange: Callable[[RenameRequest, Actor], Awaitable[InodeReply]] = _not_exchanged
        #: Takes over an intent, and the lock of its paths, that the store left unclear; set by the recovery service.
        self.finish_later: Callable[[int, Intent, PathLock | None], None] = _not_finished

    # --- mkdir ---

    async def mkdir(self, request: MkdirRequest, peer: Peer) -> InodeReply:
        """The handler. See `namespace.directories.make_directory` for errors."""
        actor = self._core.identity.actor(peer)
        await self._syncer.load(request.path)
        async with self._locks.hold(request.path, owner="mkdir") as lock:
            with self._core.reading() as view:
                dry = self._make(view, request, actor)
                found = try_resolve(view, request.path, actor)
            if not dry.created_paths:
                return InodeReply(dry.inode)
            mount = found.parent.mount if isinstance(found, Missing) else found.mount
            assert mount is not None, "every directory lies in a mount: the root is one"
            intent = self.intent(MKDIR, actor, request.path, mount.mount_id, _below(found))
            asked = replace(
                intent,
                mode=request.mode,
                parents=request.parents,
                owner=request.owner,
                group=request.group,
                umask=request.umask,
            )
            made = await self.carry_out(
                asked,
                lambda driver: _mkdir_in_store(driver, os.fsdecode(intent.ufs_path)),
                lambda view, _: self._make(view, request, actor),
                lock,
            )
            self._syncer.freshness.note_made_here(made.created_paths[0])
        return InodeReply(made.inode)

    def _make(self, view: View, request: MkdirRequest, actor: Actor) -> Made:
        return make_directory(
            view,
            request.path,
            request,
            request.parents,
            request.exist_ok,
            actor,
            self._core.clock.now_ns(),
            self._core.ids,
            persisted=True,
        )

    # --- remove ---

    async def remove(self, request: RemoveRequest, peer: Peer) -> CountReply:
        """The handler. A tree disappears at once, however large; its entries are reclaimed later."""
        await self._syncer.load(request.path)
        actor = self._core.identity.actor(peer)
        detached = await self.remove_as(request.path, request.recursive, actor, kind=request.kind)
        return CountReply(1, at_ns=0 if detached is None else detached.at_ns)

    async def remove_as(
        self, path: bytes, recursive: bool, actor: Actor, expected: Inode | None = None, kind: str = ""
    ) -> Detached | None:
        """The same for the system itself; what was removed. With `expected`: nothing happens (None) when the path is
        another inode by now, or its time to live was changed."""
        await self.give_way(path)
        async with self._locks.hold(path, owner="remove") as lock:
            with self._core.reading() as view:
                found = resolve(view, path, actor)
                if expected is not None and (found.inode.id, found.inode.expires_ms) != (
                    expected.id,
                    expected.expires_ms,
                ):
                    return None
                in_store = _may_be_in_store(view, found)
                keep = _is_last_in_stored(view, found)
                if in_store:
                    self._detach(view, path, recursive, actor, kind)  # a rehearsal: from here the view is not what is
            if in_store and found.mount is not None:
                store_path = os.fsdecode(found.relative)
                intent = self.intent(REMOVE, actor, path, found.mount.mount_id, store_path)
                detached = await self.carry_out(
                    replace(
                        intent, recursive=recursive, file_id=found.inode.id, version=found.inode.version, keep=keep
                    ),
                    lambda driver: remove_in_store(driver, store_path, found.inode.is_dir, recursive, keep),
                    lambda view, _: self._detach(view, path, recursive, actor, kind),
                    lock,
                )
            else:
                detached = await self._core.pipeline.submit(
                    lambda view: self._detach(view, path, recursive, actor, kind)
                )
            await self.keep_emptied(found, keep)
        self.detached(detached)
        return detached

    def detached(self, detached: Detached) -> None:
        """What was cut off is cleared away in the background."""
        if detached.waits:
            self.wake_reclaim()
        else:
            self._freeing.drop_soon([detached.freed])

    def _detach(self, view: View, path: bytes, recursive: bool, actor: Actor, kind: str) -> Detached:
        return detach(view, path, recursive, actor, self._core.clock.now_ns(), kind)

    # --- rename ---

    async def rename(self, request: RenameRequest, peer: Peer) -> InodeReply:
        """The handler. See `namespace.trees.rename` for errors."""
        actor = self._core.identity.actor(peer)
        if request.exchange:
            return await self.exchange(request, actor)
        src, dst = request.src, request.dst
        await self._syncer.load(src)
        await self._syncer.load(dst)
        await self.give_way(dst)
        async with self._locks.hold(src, dst, owner="rename") as lock:
            with self._core.reading() as view:
                found = resolve(view, src, actor)
                into = resolve(view, split(dst)[0], actor)
                in_store = _may_be_in_store(view, found)
                keep = split(src)[0] != split(dst)[0] and _is_last_in_stored(view, found)
                only_here = is_here_only(view, found)
                same = entry_at(view, into.inode.id, split(dst)[1])
                if in_store:
                    self._rename(view, request, actor)  # a rehearsal: from here on the view is not what is
            if src == dst or (same is not None and same.id == found.inode.id):
                return InodeReply(found.inode)  # nothing to do; of two names of one file both stay
            if only_here or not in_store:
                if in_store:
                    await self._drop_leftover(found, keep)
                done = await self._core.pipeline.submit(lambda view: self._rename(view, request, actor))
            else:
                done = await self._rename_through(request, actor, found, into, keep, lock)
            await self.keep_emptied(found, keep)
            if done.inode.is_dir:
                self._syncer.freshness.clear()  # what is known to be absent was known of other paths
        self._freeing.drop_soon([done.freed])
        return InodeReply(done.inode)

    async def _rename_through(
        self, request: RenameRequest, actor: Actor, found: Resolved, into: Resolved, keep: bool, lock: PathLock
    ) -> Renamed:
        assert found.mount is not None
        parent = os.fsdecode(into.relative)
        name = os.fsdecode(split(request.dst)[1])
        target = f"{parent}/{name}" if parent else name
        store_path = os.fsdecode(found.relative)
        intent = self.intent(RENAME, actor, request.src, found.mount.mount_id, store_path)
        complete = replace(
            intent,
            dst=request.dst,
            ufs_dst=os.fsencode(target),
            replace=request.replace,
            file_id=found.inode.id,
            keep=keep,
        )
        make_parent = needs_parent(into)

        def change(view: View, status: UfsStatus | None) -> Renamed:
            done = self._rename(view, request, actor)
            refresh_fingerprint(view, done.inode, status, self._core.clock.now_ns())
            mark_directories_stored(view, into.inode.id, done.inode.mount_id)
            return done

        return await self.carry_out(
            complete,
            lambda driver: rename_in_store(driver, store_path, target, found.inode.is_dir, make_parent, keep),
            change,
            lock,
        )

    def _rename(self, view: View, request: RenameRequest, actor: Actor) -> Renamed:
        return rename(view, request.src, request.dst, request.replace, actor, self._core.clock.now_ns())

    async def _drop_leftover(self, found: Resolved, keep: bool) -> None:
        """A file that is not persisted moves here only. What the store has under its old name, if anything, is an older
        content that was overwritten: it must not come back to life."""
        assert found.mount is not None
        driver = await self._mounts.driver(found.mount)
        await self._pool.run("delete", remove_in_store, driver, os.fsdecode(found.relative), False, False, keep)

    # --- the common course ---

    async def keep_emptied(self, left: Resolved, was_kept: bool) -> None:
        """The store goes on having the directory that an entry has left (`left`: where it was, looked up before).
        Several entries may leave a directory at the same time, none of them as the last one that it saw."""
        with self._core.reading() as view:
            try:
                emptied = not was_kept and _is_stored_and_empty(view, left)
            except (FileNotFoundError, NotADirectoryError):
                return
        if emptied and left.mount is not None:
            driver, store_path = await self._mounts.driver(left.mount), os.fsdecode(left.relative).rpartition("/")[0]
            try:
                await self._pool.run("mkdir", _mkdir_in_store, driver, store_path)
            except OSError as error:
                if not is_unclear(error):
                    raise  # the change itself is done
                log.warning("emptied_not_kept", path=os.fsdecode(left.path), error=str(error))
                intent = self.intent(MKDIR, SYSTEM, split(left.path)[0], left.mount.mount_id, store_path)
                known = replace(intent, file_id=left.parent_id)
                intent_id = await self._core.pipeline.submit(lambda view: intents.put(view, known, self._core.ids))
                self.finish_later(intent_id, known, None)

    async def carry_out(
        self,
        intent: Intent,
        in_store: Callable[[UnderStorage], Stored],
        change: Callable[[View, Stored], T],
        lock: PathLock,
    ) -> T:
        """The store's part, then the namespace's, with the intent on record from before to after. The caller holds the
        lock. Raises what either refuses."""
        driver = await self._mounts.driver(self._mounts.table[intent.mount_id])
        intent_id = await self._core.pipeline.submit(lambda view: intents.put(view, intent, self._core.ids))
        fail_at("master.after_intent")
        try:
            status = await self._pool.run(intent.kind.lower(), in_store, driver)
        except Exception as error:  # not a cancellation: this life ends, and the next one finds the intent
            if isinstance(error, OSError) and is_unclear(error):
                log.warning("intent_left_open", kind=intent.kind, path=os.fsdecode(intent.path), error=str(error))
                self.finish_later(intent_id, intent, lock)
                raise may_take_effect(error) from error
            await self._core.pipeline.submit(lambda view: intents.drop(view, intent_id))
            raise
        fail_at("master.after_store_operation")

        def apply(view: View) -> T:
            result = change(view, status)
            intents.drop(view, intent_id)
            return result

        try:
            result = await self._core.pipeline.submit(apply)
        except OSError:
            await self.take_in(intent, intent_id)
            raise
        fail_at("master.after_operation_commit")
        return result

    async def take_in(self, intent: Intent, intent_id: int) -> None:
        """The namespace refused after the store agreed, or what was begun can never be ended: it follows the store, and
        the intent is dropped. The caller holds the locks."""
        for path in (intent.path, intent.dst):
            if path:
                await self._syncer.retake(path)
        await self._core.pipeline.submit(lambda view: intents.drop(view, intent_id))

    def intent(self, kind: str, actor: Actor, path: bytes, mount_id: int, ufs_path: str) -> Intent:
        return Intent(
            kind,
            path,
            mount_id=mount_id,
            ufs_path=os.fsencode(ufs_path),
            user=actor.user,
            groups=sorted(actor.groups),
            superuser=actor.superuser,
            created_ns=self._core.clock.now_ns(),
        )


def _mkdir_in_store(driver: UnderStorage, ufs_path: str) -> None:
    driver.mkdir(ufs_path)


def delete_tolerantly(driver: UnderStorage, ufs_path: str, is_dir: bool, recursive: bool) -> None:
    """Blocking: deletes what is there; that nothing is there is fine."""
    try:
        if is_dir:
            driver.delete_directory(ufs_path, recursive)
        else:
            driver.delete(ufs_path)
    except UfsBucketMissingError:
        raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return  # gone, or changed its kind behind our back: what is there now is not what was removed


def remove_in_store(driver: UnderStorage, ufs_path: str, is_dir: bool, recursive: bool, keep: bool) -> None:
    """Blocking: `delete_tolerantly`; with `keep` the store has the directory above afterwards, though empty. An object
    store forgets a prefix with its last object, and a folder may never have been made for what was only queued."""
    delete_tolerantly(driver, ufs_path, is_dir, recursive)
    if keep:
        driver.mkdir(ufs_path.rpartition("/")[0])


def rename_in_store(
    driver: UnderStorage, source: str, target: str, is_dir: bool, make_parent: bool, keep: bool
) -> UfsStatus | None:
    """Blocking: moves what is there; done again after a crash it finishes the work. Returns the status of a file whose
    fingerprint may have changed. `keep` as in `remove_in_store`."""
    if make_parent and not driver.capabilities.object_store:
        driver.mkdir(target.rpartition("/")[0])
    try:
        driver.rename(source, target)
    except UfsBucketMissingError:
        raise
    except FileNotFoundError:
        if not is_dir and not _exists(driver, target):
            raise
        is_dir = True  # never there, for what is below is only queued; or a file that was moved before a crash
    if keep:
        driver.mkdir(source.rpartition("/")[0])
    return driver.stat(target) if driver.capabilities.object_store and not is_dir else None


def needs_parent(into: Resolved) -> bool:
    """Whether the store may not have the directory `into`, which is no root of a mount."""
    return bool(into.relative) and not into.inode.flags & Flag.PERSISTED


def refresh_fingerprint(view: View, inode: Inode, status: UfsStatus | None, now_ns: int) -> None:
    """A server-side copy may have given the same content a new fingerprint. A content that is not persisted, as that of
    a write in between, is not what was copied."""
    if status is None or not inode.flags & Flag.PERSISTED:
        return
    if status.fingerprint != inode.fingerprint and status.length == inode.length:
        mark_persisted(view, inode.id, inode.version, status.fingerprint, now_ns)


def is_unclear(error: OSError) -> bool:
    """Whether part of the change, or all, may have been done in the store. Python's own refusals come before anything
    is done, and so do those of a store that accepts no key, or has no bucket."""
    if isinstance(error, UfsAuthError | UfsBucketMissingError):
        return False
    return isinstance(error, UfsError | ConnectionError | TimeoutError)


def may_take_effect(error: OSError) -> OSError:
    """The same error, with what will become of the change."""
    text = f"{told(error)}; the change may still take effect: it is finished as soon as the under storage answers"
    return type(error)(error.errno or errno.EIO, text, error.filename)


def _exists(driver: UnderStorage, ufs_path: str) -> bool:
    try:
        driver.stat(ufs_path)
    except FileNotFoundError:
        return False
    return True


def _may_be_in_store(view: View, found: Resolved) -> bool:
    """Whether the store may have anything under this name: the entry's own flag does not tell all. An unpersisted file
    may have overwritten a persisted one, and a directory may have been made there for a file below it."""
    if found.mount is None or not is_here_only(view, found):
        return True
    if found.inode.flags & Flag.UNSTORED:
        return False
    parent = resolve(view, split(found.path)[0], SYSTEM)
    return bool(parent.inode.flags & Flag.PERSISTED)


def is_here_only(view: View, found: Resolved) -> bool:
    """Whether what the store has under this name, if anything, is not the entry's content."""
    if found.inode.is_dir:
        return False
    further = is_further_name(view, found.inode, found.parent_id, found.name)
    return further or not found.inode.flags & Flag.PERSISTED


def _is_last_in_stored(view: View, found: Resolved) -> bool:
    """Whether a directory that the store should have is empty once the entry leaves it."""
    parent = _parent_in_store(view, found)
    return parent is not None and len(list(list_children(view, parent.id, b"", 2))) == 1


def _is_stored_and_empty(view: View, left: Resolved) -> bool:
    """Whether the directory that an entry has left should be in the store, and is empty."""
    parent = _parent_in_store(view, left)
    return parent is not None and is_empty(view, parent.id)


def _parent_in_store(view: View, found: Resolved) -> Inode | None:
    """The directory of an entry, if the store should have it. The root of a mount is none: it stays in any case."""
    if found.mount is None or b"/" not in found.relative:
        return None
    parent = resolve(view, split(found.path)[0], SYSTEM).inode
    return parent if parent.flags & Flag.PERSISTED else None


def _below(found: Resolved | Missing) -> str:
    if isinstance(found, Resolved):
        return os.fsdecode(found.relative)
    return "/".join(os.fsdecode(part) for part in (found.parent.relative, *found.remaining) if part)


def _nothing() -> None:
    return


async def _not_exchanged(_request: RenameRequest, _actor: Actor) -> InodeReply:
    raise AssertionError("the service of exchanges does this")


async def _nobody_gives_way(_path: bytes) -> None:
    return


def _not_finished(_intent_id: int, _intent: Intent, _lock: PathLock | None) -> None:
    raise AssertionError("the recovery service takes over what is unclear")
