"""The mounts as the master uses them: the table in memory, and one open driver for each.

Owns: the drivers. Never: changes the mount table (`mounts.py` does, through the pipeline, and then calls `refresh`).
"""

from isotach.base.types import Mount, MountId
from isotach.master.core import Core
from isotach.master.ufs_pool import UfsPool
from isotach.namespace import mounts
from isotach.obs.log import get_logger
from isotach.ufs.interface import UnderStorage
from isotach.ufs.registry import open_under_storage

log = get_logger("master.mounts")


class MountSet:
    """Small (at most MOUNTS_MAX rows), so it is simply read anew after every change."""

    def __init__(self, core: Core, pool: UfsPool) -> None:
        self._core = core
        self._pool = pool
        self._drivers: dict[MountId, UnderStorage] = {}
        self.table: dict[MountId, Mount] = {}
        self.epoch = 0
        self.refresh()

    def refresh(self) -> None:
        """Takes the table in from the last commit; drivers of mounts that are gone are closed."""
        with self._core.reading() as view:
            self.table = mounts.mount_table(view)
            self.epoch = mounts.mounts_epoch(view)
        for mount_id in [known for known in self._drivers if known not in self.table]:
            _close(self._drivers.pop(mount_id))

    def for_workers(self) -> tuple[list[Mount], int]:
        """The table with secrets, and the epoch by which workers notice changes."""
        return list(self.table.values()), self.epoch

    async def driver(self, mount: Mount) -> UnderStorage:
        """The open driver. Raises what opening raises: wrong options, an unknown scheme."""
        driver = self._drivers.get(mount.mount_id)
        if driver is None:
            opened = await self._pool.run("open", open_under_storage, mount.ufs_uri, mount.options, mount.read_only)
            driver = self._drivers.setdefault(mount.mount_id, opened)
            if driver is not opened:
                _close(opened)
        return driver

    def opened(self, mount_id: MountId) -> UnderStorage | None:
        """The driver, if it is open already."""
        return self._drivers.get(mount_id)

    def adopt(self, mount_id: MountId, driver: UnderStorage) -> None:
        """Takes over a driver that was opened to check a new mount."""
        self._drivers[mount_id] = driver

    def close(self) -> None:
        while self._drivers:
            _close(self._drivers.popitem()[1])


def _close(driver: UnderStorage) -> None:
    try:
        driver.close()
    except OSError as error:
        log.warning("driver_close_failed", uri=driver.uri, error=str(error))
