"""Folders going out of service and coming back.

Owns: opening the folders of a tier, looking at them now and then, and trying again those that failed. Never: notices a
failure by itself in the middle of an operation (`Shelves.blame` does, with the error at hand).

A folder that is back is taken in with what its index says: the versions in it are reported again. One that was emptied
or replaced by an empty one starts anew. Whose it is, is asked each time (`ownership`). A folder on a disk is not made
again after it has vanished: what is missing may be the mount, and the disk under the mount point is not ours to fill.
"""

import errno
from collections.abc import Sequence
from typing import Final

from isotach.base.errors import AlreadyRunningError, IsotachError
from isotach.blockstore.folder import Folder, is_folder_in_memory
from isotach.blockstore.ownership import index_state
from isotach.blockstore.recovery import recover_folder
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.tier import Place, Tier
from isotach.obs.log import get_logger

log = get_logger("blockstore.folders")


class FolderService:
    """One per store; used by its constructor, and then by the mover's thread."""

    def __init__(self, shelves: Shelves, cluster: bytes) -> None:
        self._shelves: Final = shelves
        self._cluster: Final = cluster

    def check(self) -> None:
        """Takes broken folders out of service, and those that serve again back in."""
        for tier in self._shelves.tiers:
            for place in tier.places:
                if place.folder is not None:
                    reason = place.folder.trouble(thorough=False)
                    if reason:
                        self._shelves.retire(place.folder, reason)
                else:
                    self._try_again(tier, place)

    def _try_again(self, tier: Tier, place: Place) -> None:
        if place.retired is not None:
            if place.retired.index.is_being_read():
                return
            place.retired.index.close()
            place.retired = None
        if not _may_be_made(place) and not place.spec.path.is_dir():
            return
        if place.foreign is not None and place.foreign == index_state(place.spec.path):
            return
        try:
            folder = _opened(place, self._cluster)
        except (OSError, IsotachError) as error:
            self._note(place, error)
            return
        with self._shelves.lock:
            place.folder, place.failure, place.foreign = folder, "", None
            tier.refresh()
            found = recover_folder(self._shelves, tier, folder, report=True)
        log.info("folder_back_in_service", folder=str(folder.path), tier=tier.alias, versions=found)

    def _note(self, place: Place, error: Exception) -> None:
        if str(error) != place.failure:
            log.warning("folder_still_out_of_service", folder=str(place.spec.path), reason=str(error))
        place.left_out(error)


def _may_be_made(place: Place) -> bool:
    """A folder in memory may, in a parent that still is: there no mount can be missing."""
    return place.was_in_memory and is_folder_in_memory(place.spec.path.parent)


def open_places(places: Sequence[Place], cluster: bytes) -> None:
    """Opens all folders at start. One that is broken, or another cluster's, is left out with a warning. Raises
    AlreadyRunningError."""
    for place in places:
        try:
            place.folder = _opened(place, cluster)
            place.was_in_memory = place.folder.holds_memory_only
        except AlreadyRunningError:
            raise
        except (OSError, IsotachError) as error:
            place.left_out(error)
            log.error("folder_left_out", folder=str(place.spec.path), tier=place.spec.alias, reason=place.failure)


def _opened(place: Place, cluster: bytes) -> Folder:
    folder = Folder(place.spec, cluster)
    reason = folder.trouble()
    if reason:
        folder.close()
        raise OSError(errno.ENODEV, reason, str(place.spec.path))
    return folder
