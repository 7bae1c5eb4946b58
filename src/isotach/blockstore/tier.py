"""One tier of the cache: folders of one speed, their shared order of eviction, and how full they may get.

Owns: the list of folders with those out of service, the policy, the watermarks, the counters. Never: evicts or moves
(`Shelves` and `Mover` do).

Each tier has a policy of its own: the order says what of *this* tier is coldest, so that a search for what to move down
never walks over the versions of a larger tier below, and a version that sinks is remembered above as evicted, which is
what lets scan-resistant policies see its return.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from isotach.base.types import FolderInfo, TierInfo, Version
from isotach.blockstore.folder import MEMORY_ALIAS, Folder
from isotach.blockstore.ownership import ForeignFolderError, IndexState
from isotach.conf.kinds import TierSpec
from isotach.eviction.interface import EvictionPolicy


class Watermarks:
    """Shares of a folder's quota: moving down begins above `high` and ends at `low`."""

    __slots__ = ("high", "low")

    def __init__(self, high: float = 0.95, low: float = 0.9) -> None:
        self.high = high
        self.low = min(low, high)


class Place:
    """A folder as configured: open, or out of service with the reason."""

    __slots__ = ("failure", "folder", "foreign", "retired", "spec", "was_in_memory")

    def __init__(self, spec: TierSpec) -> None:
        self.spec = spec
        self.folder: Folder | None = None
        self.failure = ""
        self.retired: Folder | None = None  # failed, its index not yet closed
        self.was_in_memory = False
        self.foreign: IndexState | None = None  # of the index when it was found to be another cluster's

    def left_out(self, error: Exception) -> None:
        """It cannot be opened now, because of `error`."""
        self.failure = str(error)
        self.foreign = error.state if isinstance(error, ForeignFolderError) else None


class Tier:
    """Folders of one alias. Changed under the store's lock only."""

    def __init__(
        self,
        alias: str,
        places: Sequence[Place],
        policy: EvictionPolicy,
        marks: Watermarks,
        used: deque[Version] | None,
    ) -> None:
        self.alias: Final = alias
        self.is_memory: Final = alias == MEMORY_ALIAS
        self.policy: Final = policy
        self.marks: Final = marks
        self.places: Final = tuple(places)
        #: Those that serve.
        self.folders: tuple[Folder, ...] = ()
        self.refresh()
        #: Notes a use; on the path of hot reads. In a lower tier it also goes to the mover, as a wish to climb.
        self.touched: Final = policy.touched if used is None else _noting(policy, used)
        self.evicted_files = 0
        self.evicted_bytes = 0
        self.checksum_errors = 0
        self.demoted_bytes = 0
        self.promoted_bytes = 0

    def refresh(self) -> None:
        """To be called when a place changed."""
        self.folders = tuple(place.folder for place in self.places if place.folder is not None)

    def freest(self) -> Iterator[Folder]:
        """The folders, the one with the most room first (Alluxio's MaxFreeAllocator)."""
        if len(self.folders) == 1:
            yield self.folders[0]
            return
        yield from sorted(self.folders, key=Folder.room_bytes, reverse=True)

    def is_above_high(self, folder: Folder) -> bool:
        """Whether the folder is to be emptied; a guess that asks no file system, for the writer's path."""
        return folder.used_bytes > folder.quota_bytes * self.marks.high

    def below_high(self, folder: Folder, size: int) -> bool:
        """Whether `size` bytes more keep it under its high watermark."""
        return folder.room_bytes() - size >= int(folder.quota_bytes * (1 - self.marks.high))

    def below_low(self, folder: Folder, size: int) -> bool:
        """Whether `size` bytes more keep it under its low watermark: nothing has to leave for them."""
        return folder.room_bytes() - size >= self.low_reserve(folder)

    def low_reserve(self, folder: Folder) -> int:
        """The room that is to be left at the low watermark."""
        return int(folder.quota_bytes * (1 - self.marks.low))

    def info(self) -> TierInfo:
        """Capacity and use. Folders out of service are listed with the reason, and count for nothing."""
        folders = [
            FolderInfo(str(place.spec.path), 0, 0, place.failure) if place.folder is None else place.folder.info()
            for place in self.places
        ]
        return TierInfo(
            self.alias,
            sum(folder.capacity_bytes for folder in folders),
            sum(folder.used_bytes for folder in folders),
            folders,
        )


class _noting:  # noqa: N801 - a function with two arguments bound, called on the hot path
    """Touches the policy and leaves a note."""

    __slots__ = ("_note", "_touched")

    def __init__(self, policy: EvictionPolicy, used: deque[Version]) -> None:
        self._touched = policy.touched
        self._note = used.append

    def __call__(self, version: Version) -> None:
        self._touched(version)
        self._note(version)
