"""Versions that no path leads to any more: their cached pages go, on every worker.

Owns: telling the workers. Never: drops the locations (the workers' own reports do, once it is done), or frees what is
still current (`residency.py` does, when the user asks for it).
"""

from collections.abc import Iterable

from isotach.base.types import Version
from isotach.master.background import Background
from isotach.master.locations import Locations
from isotach.master.workers import WorkerRegistry


class Freeing:
    """Best effort: the rows of the locations stay until a worker reports that it dropped a version, so that a master
    that dies before it was heard finds in them what it still has to tell."""

    def __init__(self, locations: Locations, workers: WorkerRegistry, background: Background) -> None:
        self._locations = locations
        self._workers = workers
        self._background = background

    def drop_soon(self, versions: Iterable[Version]) -> None:
        """Returns at once; the commands go out in the background."""
        gone = [version for version in versions if version]
        if gone:
            self._background.spawn("free-versions", self.drop(gone))

    async def drop(self, versions: Iterable[Version]) -> None:
        """Tells the holders of the versions to drop them, dirty or not."""
        for version, worker_id in await self._locations.holding(versions):
            self._workers.tell(worker_id, "FREE", version, force=True)
