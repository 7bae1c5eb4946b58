"""Opening the store of the block locations, and deciding whether what stands in it may be believed.

Owns: that decision. Never: reads or writes a location.

The store is not synced: the kernel writes it back when it likes. A process that is killed loses nothing of it, for what
it wrote is the kernel's by then; a machine that crashes may lose or break anything. So it is kept as long as the same
kernel runs on, and wiped otherwise; the workers then report everything anew.
"""

import shutil
from pathlib import Path
from typing import Final

from isotach.base.errors import AlreadyRunningError, IsotachError
from isotach.kv.lmdb_store import LmdbStore
from isotach.master.location_rows import BOOT_KEY, COMPLETE_KEY
from isotach.obs.log import get_logger

log = get_logger("master.soft_store")
_MAP_BYTES: Final = 64 << 30
#: Changes with the meaning of the rows: an older program's are not believed.
_FORMAT: Final = b"2:"


def open_soft_store(directory: Path) -> tuple[LmdbStore, bool]:
    """The store, and whether every worker that has anything has rows in it. Raises AlreadyRunningError."""
    boot = _FORMAT + _boot_id()
    if directory.exists():
        store = _open(directory)
        if store is not None:
            with store.snapshot() as snapshot:
                written_under, is_complete = snapshot.get(BOOT_KEY), snapshot.get(COMPLETE_KEY) is not None
            if written_under == boot != _FORMAT:
                return store, is_complete
            store.close()
        log.info("locations_wiped", reason="the machine was started anew, or the rows are not ours")
        shutil.rmtree(directory, ignore_errors=True)
    store = LmdbStore(directory, map_bytes=_MAP_BYTES, sync=False)
    store.commit([(BOOT_KEY, boot)])
    return store, False


def _open(directory: Path) -> LmdbStore | None:
    try:
        return LmdbStore(directory, map_bytes=_MAP_BYTES, sync=False)
    except AlreadyRunningError:
        raise
    except (IsotachError, OSError) as error:
        log.warning("locations_unreadable", error=str(error))
        return None


def _boot_id() -> bytes:
    """Another one at every start of the kernel; empty when the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""
