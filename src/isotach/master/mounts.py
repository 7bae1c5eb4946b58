"""MOUNT and UNMOUNT.

Owns: the checks of a new mount with its store, and the end of an old one. Never: keeps the table (`mount_set.py`), or
lets a secret into a log or an error.
"""

import asyncio
import errno
import os
from collections.abc import Callable

from isotach.base.errors import UfsUnreachableError
from isotach.base.limits import UFS_MOUNT_CHECK_TIMEOUT_S
from isotach.base.types import Mount, MountId
from isotach.master.core import Core
from isotach.master.mount_set import MountSet
from isotach.master.path_locks import PathLocks
from isotach.master.reclaim import Reclaim
from isotach.master.sync import Syncer
from isotach.master.ufs_pool import UfsPool
from isotach.namespace import persist_queue
from isotach.namespace.mounts import add_mount, remove_mount
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.ufs.interface import UnderStorage
from isotach.ufs.registry import open_under_storage
from isotach.ufs.uri import mask_options
from isotach.wire.messages import Empty, MountRequest, PathRequest

log = get_logger("master.mounts")
_QUEUE_LOOKED_THROUGH = 10_000


class Mounts:
    """One per master. For the event-loop thread."""

    def __init__(
        self,
        core: Core,
        *,
        mount_set: MountSet,
        pool: UfsPool,
        locks: PathLocks,
        syncer: Syncer,
        reclaim: Reclaim,
        default_sync_ms: int,
    ) -> None:
        self._core = core
        self._mounts = mount_set
        self._pool = pool
        self._locks = locks
        self._syncer = syncer
        self._reclaim = reclaim
        self._default_sync_ms = default_sync_ms
        #: Told that a mount goes, before its paths are locked; set by the recovery service.
        self.let_go: Callable[[MountId], None] = lambda _mount_id: None

    async def mount(self, request: MountRequest, peer: Peer) -> Empty:
        """The handler. Answers within about 10 s, whatever the store does. Raises UfsUnreachableError, UfsAuthError,
        UfsBucketMissingError, InvalidArgumentError, and what `namespace.mounts.add_mount` does."""
        await self._syncer.ensure_current(request.path, children=True)
        actor = self._core.identity.actor(peer)
        sync_ms = request.metadata_sync_interval_ms
        interval_ms = self._default_sync_ms if sync_ms is None else sync_ms
        uri = request.ufs_uri.rstrip("/") or request.ufs_uri

        def add(view: View) -> Mount:
            return add_mount(
                view,
                request.path,
                uri,
                request.options,
                request.read_only,
                interval_ms,
                actor,
                self._core.clock.now_ns(),
                self._core.ids,
            )

        async with self._locks.hold(request.path, owner="mount"):
            with self._core.reading() as view:
                add(view)  # refused at once, before the store is asked
            driver = await self._open(request)
            try:
                mount = await self._core.pipeline.submit(add)
            except BaseException:
                driver.close()
                raise
            self._mounts.adopt(mount.mount_id, driver)
            self._mounts.refresh()
            self._syncer.freshness.clear()
        shown = mask_options(request.options)
        log.info("mounted", path=os.fsdecode(mount.path), uri=mount.ufs_uri, options=shown, read_only=mount.read_only)
        return Empty()

    async def _open(self, request: MountRequest) -> UnderStorage:
        driver = await self._pool.run(
            "open", open_under_storage, request.ufs_uri, request.options, read_only=request.read_only
        )
        try:
            async with asyncio.timeout(UFS_MOUNT_CHECK_TIMEOUT_S):
                await self._pool.run("check", driver.check, request.read_only)
        except TimeoutError as error:
            driver.close()
            text = (
                f"{driver.uri} did not answer within {UFS_MOUNT_CHECK_TIMEOUT_S:.0f} s: check the endpoint and network"
            )
            raise UfsUnreachableError(errno.EIO, text) from error
        except BaseException:
            driver.close()
            raise
        return driver

    async def unmount(self, request: PathRequest, peer: Peer) -> Empty:
        """The handler. The store keeps its data; what was cached of it goes. Raises OSError (EBUSY) while files of the
        mount still wait to be persisted."""
        actor = self._core.identity.actor(peer)

        def remove(view: View) -> Mount:
            mount = remove_mount(view, request.path, actor)
            self._refuse_unpersisted(view, mount)
            return mount

        with self._core.reading() as view:
            self.let_go(remove(view).mount_id)  # refused at once, or else nothing that its store holds up may hinder it
        async with self._locks.hold(request.path, owner="unmount"):
            mount = await self._core.pipeline.submit(remove)
            self._mounts.refresh()
            self._syncer.freshness.clear()
        self._reclaim.wake()
        log.info("unmounted", path=os.fsdecode(mount.path), uri=mount.ufs_uri)
        return Empty()

    def _refuse_unpersisted(self, view: View, mount: Mount) -> None:
        waiting = len(persist_queue.first(view, mount.mount_id, _QUEUE_LOOKED_THROUGH))
        if waiting:
            text = f"{waiting} files of this mount wait to be persisted: run `isotach fs persist` on it first"
            raise OSError(errno.EBUSY, text, os.fsdecode(mount.path))
