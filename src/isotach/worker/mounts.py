"""The under storages that this worker reads from and writes to, by mount id.

Owns: one open `UnderStorage` per mount, within its limits, following the master's mount table. Never: logs a mount's
options (secrets).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from isotach.base.errors import UnavailableError
from isotach.base.limits import UFS_REQUESTS_PER_MOUNT
from isotach.base.types import Mount, MountId
from isotach.obs.log import get_logger
from isotach.ufs.interface import UnderStorage
from isotach.ufs.limits import LimitedUnderStorage
from isotach.ufs.pace import Pace
from isotach.ufs.registry import open_under_storage
from isotach.ufs.uri import parse_limits

log = get_logger("worker.mounts")

Opener = Callable[[str, Mapping[str, str], bool], UnderStorage]


class UfsLimits(msgspec.Struct, frozen=True):
    """What this worker may ask of under storages; a mount's own options may say otherwise for that mount."""

    requests_per_mount: int = UFS_REQUESTS_PER_MOUNT
    bandwidth: int = 0  # bytes per second of all mounts together; 0: no limit


class Mounts:
    """`refresh` is called, without a lock, when a mount id is asked for that is not known yet; it may call `update`."""

    def __init__(
        self, refresh: Callable[[], None], opener: Opener = open_under_storage, limits: UfsLimits | None = None
    ) -> None:
        self._refresh: Final = refresh
        self._opener: Final = opener
        self._limits: Final = limits or UfsLimits()
        self._pace: Final = Pace(self._limits.bandwidth)
        self._lock: Final = threading.Lock()
        self._mounts: dict[MountId, Mount] = {}
        self._storages: dict[MountId, UnderStorage] = {}
        self.epoch = -1

    def update(self, mounts: Sequence[Mount], epoch: int) -> None:
        """Takes in the master's table. A mount that changed or went is closed."""
        fresh = {mount.mount_id: mount for mount in mounts}
        with self._lock:
            gone = [key for key, mount in self._mounts.items() if fresh.get(key) != mount]
            closing = [self._storages.pop(key) for key in gone if key in self._storages]
            self._mounts, self.epoch = fresh, epoch
        for storage in closing:
            storage.close()

    def storage(self, mount_id: MountId) -> UnderStorage:
        """The under storage of a mount. Raises UnavailableError while the mount is not known."""
        storage = self._storages.get(mount_id)
        if storage is not None:
            return storage
        if mount_id not in self._mounts:
            self._refresh()
        with self._lock:
            storage = self._storages.get(mount_id)
            if storage is None:
                mount = self._mounts.get(mount_id)
                if mount is None:
                    raise UnavailableError(f"this worker does not know mount {mount_id} (yet): look the path up again")
                storage = self._limited(self._opener(mount.ufs_uri, mount.options, mount.read_only), mount.options)
                self._storages[mount_id] = storage
                log.info("under_storage_opened", mount_id=mount_id, uri=storage.uri)
        return storage

    def _limited(self, storage: UnderStorage, options: Mapping[str, str]) -> UnderStorage:
        own = parse_limits(options)
        return LimitedUnderStorage(
            storage, own.requests or self._limits.requests_per_mount, Pace(own.bandwidth, self._pace)
        )

    def close(self) -> None:
        """Closes all."""
        with self._lock:
            storages, self._storages = list(self._storages.values()), {}
        for storage in storages:
            storage.close()
