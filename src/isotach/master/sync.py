"""Bringing the namespace up to date with the under storages.

Owns: deciding when a store must be asked, asking it once however many wait, and taking the answer in. Never: merges by
itself (`namespace.sync` does), or hides a store's failure behind what was known before.

A path that does not exist here is always asked for (unless it was found absent lately); one that exists only when its
mount's interval, or the call's, says so. Every question and the change it leads to happen under the path's lock, so
that no write through of ours falls between them.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator

import msgspec

from isotach.base.errors import InvalidPathError, UfsBucketMissingError, UfsError
from isotach.base.limits import LEARN_WAIT_S
from isotach.base.paths import join, normalize, relative_to, split
from isotach.base.types import Flag, Mount
from isotach.master.core import Core
from isotach.master.freeing import Freeing
from isotach.master.freshness import Freshness
from isotach.master.mount_set import MountSet
from isotach.master.path_locks import PathLocks
from isotach.master.ufs_pool import UfsPool
from isotach.namespace.actor import SYSTEM
from isotach.namespace.intents import Intent
from isotach.namespace.lookup import Missing, try_resolve
from isotach.namespace.sync import ListingMerge, LoadedStatus, Synced, apply_listing, apply_status
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsStatus, UnderStorage
from isotach.wire.messages import SyncReply, SyncRequest

log = get_logger("master.sync")


class _Question(msgspec.Struct, frozen=True):
    """What must be asked: the status of a path, or its listing. `strict`: asked after the caller came, not before."""

    path: bytes
    mount: Mount
    listing: bool
    strict: bool


class Syncer:
    """One per master. For the event-loop thread."""

    def __init__(
        self,
        core: Core,
        mounts: MountSet,
        pool: UfsPool,
        locks: PathLocks,
        freeing: Freeing,
        absent_ttl_s: float,
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._pool = pool
        self._locks = locks
        self._freeing = freeing
        self.freshness = Freshness(absent_ttl_s)
        self._asking: dict[tuple[bytes, bool], asyncio.Task[int]] = {}
        self.asked = 0

    async def sync(self, request: SyncRequest, _peer: Peer) -> SyncReply:
        """The handler of SYNC: from readers that met a path they cannot answer for."""
        return SyncReply(await self.ensure_current(request.path, request.children, request.interval_ms))

    async def ensure_current(self, path: bytes, children: bool = False, interval_ms: int | None = None) -> int:
        """Asks the under storage about `path` if need be; returns how many entries changed.

        Raises UfsError and its kin when the store does not answer: what was known before may be out of date.
        """
        question = self._question(path, children, interval_ms)
        if question is None:
            return 0
        changed = await self._ask_once(question)
        if children and not question.listing:  # a path that was not here: now that it is, its listing may be missing
            question = self._question(path, children, interval_ms)
            if question is not None and question.listing:
                changed += await self._ask_once(question)
        return changed

    def _question(self, path: bytes, children: bool, interval_ms: int | None) -> _Question | None:
        if normalize(path) != path:
            raise InvalidPathError(f"{os.fsdecode(path)!r} is not a canonical path: no empty, '.' or '..' components")
        now = self._core.clock.monotonic()
        try:
            with self._core.reading() as view:
                found = try_resolve(view, path, SYSTEM)
        except NotADirectoryError:
            return None  # the namespace's own answer is the error
        mount = found.parent.mount if isinstance(found, Missing) else found.mount
        if mount is None:
            return None
        interval = mount.metadata_sync_interval_ms if interval_ms is None else interval_ms
        if isinstance(found, Missing):
            if self.freshness.is_absent(path, interval, now):
                return None
            return _Question(path, mount, False, interval == 0)
        if children and found.inode.is_dir:
            loaded = found.inode.flags & Flag.CHILDREN_LOADED
            if loaded and self.freshness.listing_is_fresh(path, interval, now):
                return None
            return _Question(path, mount, True, interval == 0)
        if self.freshness.status_is_fresh(path, interval, now):
            return None
        return _Question(path, mount, False, interval == 0)

    async def _ask_once(self, question: _Question) -> int:
        """Joins the question that is under way, or asks. Whoever wants a strictly fresh answer does not join one that
        began before it came, but waits for it to end and asks (once, together with the others who wait)."""
        key = (question.path, question.listing)
        running = self._asking.get(key)
        if running is not None and question.strict:
            await asyncio.wait([running])
            running = self._asking.get(key)
        if running is None:
            work = self._ask_listing(question) if question.listing else self._ask_status(question)
            running = self._core.background.spawn("sync", work, awaited=True)
            self._asking[key] = running
            running.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(running)

    def _asked(self, key: tuple[bytes, bool], done: "asyncio.Task[int]") -> None:
        if self._asking.get(key) is done:
            del self._asking[key]

    async def _ask_status(self, question: _Question) -> int:
        path, mount = question.path, question.mount
        driver = await self._mounts.driver(mount)
        async with self._locks.hold(path, owner="sync"):
            return await self.take_status(path, mount, driver)

    async def take_status(self, path: bytes, mount: Mount, driver: UnderStorage) -> int:
        """Asks for one path and takes the answer in. The caller holds the path's lock."""
        self.asked += 1
        if path == mount.path:
            return 0  # the root of a mount is always there; its record is our own
        status = await self._pool.run("stat", _stat_or_none, driver, os.fsdecode(relative_to(path, mount.path)))
        loaded = None if status is None else loaded_status(status)
        now_ns = self._core.clock.now_ns()
        synced = await self._core.pipeline.submit(
            lambda view: apply_status(view, path, loaded, mount, now_ns, self._core.ids)
        )
        self._freeing.drop_soon(synced.freed_versions)
        if status is None:
            self.freshness.note_absent(path, self._core.clock.monotonic())
        else:
            self.freshness.note_status(path, self._core.clock.monotonic())
        return synced.changed

    def knows_all_beside(self, missing: Missing) -> bool:
        """Whether all names beside the missing one are known here: its directory's listing was taken in, or the
        store did not have that and we made it, below a mount whose store is not asked again for what is known."""
        parent = missing.parent
        if parent.mount is None or parent.mount.metadata_sync_interval_ms >= 0 or len(missing.remaining) > 1:
            return False
        return bool(parent.inode.flags & Flag.CHILDREN_LOADED) or self.freshness.is_made_here(missing.path, -1)

    def _is_known(self, path: bytes) -> bool:
        """Whether the store has nothing to say about `path`, be it here or not, and neither about its directory."""
        if normalize(path) != path:
            return False
        with self._core.reading() as view:
            try:
                found = try_resolve(view, path, SYSTEM)
            except NotADirectoryError:
                return False
        if isinstance(found, Missing):
            return self.knows_all_beside(found)
        is_root = found.mount is not None and found.path == found.mount.path  # whose directory is of another mount
        return not is_root and found.mount is not None and found.mount.metadata_sync_interval_ms < 0

    async def load(self, path: bytes) -> None:
        """Before a change: makes sure that `path`, or at least its directory, is known here if the store has it."""
        if self._is_known(path):
            return
        await self.ensure_current(path)
        parent = split(path)[0]
        if parent != path:
            await self.ensure_current(parent)

    async def learn(self, path: bytes) -> None:
        """Before a file is made, or what the store has of that name replaced: asks whether the store has it. A folder's
        owners and modes must hold for what was never looked up; an object store has none, and is not asked. Nor is it
        for what lies in a directory that was found absent and then made by us. A store that does not answer stops no
        write: one that goes through will meet it, one that does not can wait."""
        with self._core.reading() as view:
            found = try_resolve(view, path, SYSTEM)
        if not isinstance(found, Missing) or found.parent.mount is None:
            return
        mount, first = found.parent.mount, join(found.parent.path, found.remaining[0])
        if self.freshness.is_made_here(first, mount.metadata_sync_interval_ms):
            return
        try:
            if (await self._mounts.driver(mount)).capabilities.object_store:
                return
            async with asyncio.timeout(LEARN_WAIT_S):
                await self.ensure_current(first)
        except (UfsError, TimeoutError) as error:
            log.info("written_unasked", path=os.fsdecode(path), error=str(error))
            return
        if first == path:
            return
        with self._core.reading() as view:
            is_missing = isinstance(try_resolve(view, first, SYSTEM), Missing)
        if is_missing:
            self.freshness.note_made_here(first)
        else:
            await self.learn(path)

    async def retake(self, path: bytes) -> int:
        """Takes in what the store shows for `path`, whatever is known. The caller holds the path's lock."""
        with self._core.reading() as view:
            found = try_resolve(view, path, SYSTEM)
        mount = found.parent.mount if isinstance(found, Missing) else found.mount
        if mount is None:
            return 0
        return await self.take_status(path, mount, await self._mounts.driver(mount))

    async def drop_foreign(self, intent: Intent, fingerprint: str) -> None:
        """Deletes what a worker stored too late, if the store still shows it and the namespace has another file there,
        or none. The caller holds the path's lock."""
        mount = self._mounts.table.get(intent.mount_id)
        if mount is None:
            return
        with self._core.reading() as view:
            found = try_resolve(view, intent.path, SYSTEM)
        if not isinstance(found, Missing) and found.inode.id == intent.file_id and not found.inode.is_dir:
            return  # the same file: its present content is persisted over this, or is this
        driver, ufs_path = await self._mounts.driver(mount), os.fsdecode(intent.ufs_path)
        status = await self._pool.run("stat", _stat_or_none, driver, ufs_path)
        if status is not None and not status.is_dir and status.fingerprint == fingerprint:
            log.warning("late_commit_undone", path=os.fsdecode(intent.path))
            await self._pool.run("delete", _delete_if_there, driver, ufs_path)

    async def _ask_listing(self, question: _Question) -> int:
        driver = await self._mounts.driver(question.mount)
        changed = 0
        try:
            pages = driver.list_pages(os.fsdecode(relative_to(question.path, question.mount.path)))
            changed = await self._take_listing(question.path, pages, ordered=driver.capabilities.object_store)
        except UfsBucketMissingError:
            raise
        except NotADirectoryError:
            async with self._locks.hold(question.path, owner="sync"):
                return await self.take_status(question.path, question.mount, driver)
        except FileNotFoundError:  # a directory that the store does not have (any more), or only we have
            async with self._locks.hold(question.path, owner="sync"):
                changed = await self.take_status(question.path, question.mount, driver)
            changed += await self._take_listing(question.path, iter(()), ordered=False)
        self.freshness.note_listing(question.path, self._core.clock.monotonic())
        return changed

    async def _take_listing(self, path: bytes, pages: Iterator[list[UfsStatus]], *, ordered: bool) -> int:
        """Page by page, each under the lock: a million entries must not shut writers out for their whole length."""
        merge = ListingMerge(ordered, self._core.clock.now_ns())
        changed, first, last = 0, True, False
        self.asked += 1
        while not last:
            async with self._locks.hold(path, owner="sync"):
                page = await self._pool.run("list", _next_page, pages)
                last = page is None
                changed += await self._take_page(path, merge, page or [], first, last)
            first = False
        return changed

    async def _take_page(self, path: bytes, merge: ListingMerge, page: list[UfsStatus], first: bool, last: bool) -> int:
        loaded = [loaded_status(status) for status in page]
        changed, finished = 0, False
        while not finished:
            synced = await self._core.pipeline.submit(
                lambda view, rows=loaded, start=first: self._merge(view, path, merge, rows, start, last)  # type: ignore[misc]
            )
            self._freeing.drop_soon(synced.freed_versions)
            changed, finished, loaded, first = changed + synced.changed, synced.finished, [], False
        return changed

    def _merge(
        self, view: View, path: bytes, merge: ListingMerge, page: list[LoadedStatus], first: bool, last: bool
    ) -> Synced:
        directory = try_resolve(view, path, SYSTEM)
        if isinstance(directory, Missing) or not directory.inode.is_dir:
            return Synced(0, [])
        return apply_listing(view, directory, page, first, last, merge, self._core.clock.now_ns(), self._core.ids)


def loaded_status(status: UfsStatus) -> LoadedStatus:
    """An under-storage entry in the namespace's words."""
    name = os.fsencode(status.path.rstrip("/").rpartition("/")[2])
    return LoadedStatus(
        name=name,
        is_dir=status.is_dir,
        length=status.length,
        mtime_ns=status.mtime_ns,
        fingerprint=status.fingerprint,
        mode=status.mode,
        owner=status.owner,
        group=status.group,
    )


def _stat_or_none(driver: UnderStorage, relative: str) -> UfsStatus | None:
    try:
        return driver.stat(relative)
    except UfsBucketMissingError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        return None


def _delete_if_there(driver: UnderStorage, relative: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        driver.delete(relative)


def _next_page(pages: Iterator[list[UfsStatus]]) -> list[UfsStatus] | None:
    return next(pages, None)
