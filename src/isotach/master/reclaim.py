"""Clearing away detached trees, slice by slice, in the background.

Owns: the loop. Never: holds up the writer for longer than one slice.
"""

import asyncio

from isotach.base.limits import RECLAIM_SLICE_ENTRIES
from isotach.master.core import Core
from isotach.master.freeing import Freeing
from isotach.namespace.trees import detached_count, reclaim_slice
from isotach.obs.log import get_logger

log = get_logger("master.reclaim")
_RETRY_S = 1.0


class Reclaim:
    """Runs while there is something to reclaim; sleeps otherwise."""

    def __init__(self, core: Core, freeing: Freeing) -> None:
        self._core = core
        self._freeing = freeing
        self._work = asyncio.Event()
        self._work.set()  # what a former life left

    def wake(self) -> None:
        """A tree was detached."""
        self._work.set()

    def waiting(self) -> int:
        """Detached directories that are left."""
        with self._core.reading() as view:
            return detached_count(view)

    async def run(self) -> None:
        """For ever; a full disk only makes it wait."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self.waiting():
                try:
                    done = await self._core.pipeline.submit(lambda view: reclaim_slice(view, RECLAIM_SLICE_ENTRIES))
                except OSError as error:
                    log.warning("reclaim_waits", error=str(error))
                    await asyncio.sleep(_RETRY_S)
                    continue
                await self._freeing.drop([version for version in done.versions if version])
                if done.finished:
                    break
