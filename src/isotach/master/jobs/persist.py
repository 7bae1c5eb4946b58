"""PERSIST as a job: every file at or below a path that is only cached goes to its under storage.

Owns: how far that is. Never: writes or retries: the durable queue of `master.persistence` does, and goes on with what
failed here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from isotach.base.errors import told
from isotach.base.limits import JOB_PERSISTS_AHEAD_MAX
from isotach.base.types import FileId, Flag, Inode
from isotach.master.core import Core
from isotach.master.jobs.running import RunningJob, Slice
from isotach.master.jobs.tree import Found
from isotach.master.sync import Syncer
from isotach.namespace.jobs import JobRecord
from isotach.namespace.lookup import inode_of, path_of
from isotach.namespace.policies import is_memory_only

_SWEEP_S = 5.0

#: Queues files durably; which of them it queued. And: what is resolved when a queued file is persisted.
Queue = Callable[[list[Inode]], Awaitable[Sequence[FileId]]]
WaitFor = Callable[[FileId], asyncio.Future[None]]


class PersistJob(RunningJob):
    """See the module."""

    def __init__(
        self, core: Core, syncer: Syncer, record: JobRecord, *, queue: Queue, wait_for: WaitFor, follow: bool
    ) -> None:
        super().__init__(core, syncer, record, follow=follow)
        self._queue = queue
        self._wait_for = wait_for
        self._waiting: dict[asyncio.Future[None], tuple[Found, Slice]] = {}

    async def _survey(self) -> None:
        """What the under storage alone holds is nothing to persist: no listing is asked for, and only files count that
        were not persisted when the job came by."""
        async for found in self._tree(sync=False).slices(self.record.path):
            todo = [each.inode.length for each in found.files if not each.inode.flags & Flag.PERSISTED]
            self._files_total += len(todo)
            self._bytes_total += sum(todo)
        self._listed = True

    async def _work(self) -> None:
        try:
            async for found in self._tree(sync=False).slices(self.record.path, self.record.cursor):
                todo = [each for each in found.files if not each.inode.flags & Flag.PERSISTED]
                part = self._open(found.cursor, len(todo), found.failures)
                queued = set(await self._queue([each.inode for each in todo]))
                for each in todo:
                    await self._begin(each, part, each.inode.id in queued)
                self._close(part)
            while self._slices:
                await self._wait_for_change(_SWEEP_S)
                self._sweep()
        finally:
            for waiter in self._waiting:
                waiter.cancel()

    async def _begin(self, found: Found, part: Slice, queued: bool) -> None:
        if not queued:
            if is_memory_only(found.inode):
                self._skip(part)
            else:
                self._done(part, found)  # persisted meanwhile, or gone
            return
        while len(self._waiting) >= JOB_PERSISTS_AHEAD_MAX:
            await self._wait_for_change(_SWEEP_S)
            self._sweep()
        waiter = self._wait_for(found.inode.id)
        self._waiting[waiter] = (found, part)
        waiter.add_done_callback(partial(self._settle, found, part))

    def _settle(self, found: Found, part: Slice, waiter: asyncio.Future[None]) -> None:
        if self._waiting.pop(waiter, None) is None or waiter.cancelled():
            return
        error = waiter.exception()
        if error is None:
            self._done(part, found)
        else:
            self._fail(part, found.path, f"{told(error)} (it stays queued, and is tried again)")

    def _sweep(self) -> None:
        """A file that was removed, or became another, while it waited is nobody's news."""
        with self._core.reading() as view:
            for waiter, (found, part) in list(self._waiting.items()):
                try:
                    path_of(view, found.inode.id)
                    persisted, gone = bool(inode_of(view, found.inode.id).flags & Flag.PERSISTED), False
                except FileNotFoundError:
                    persisted, gone = False, True
                if (persisted or gone) and not waiter.done():
                    del self._waiting[waiter]
                    waiter.cancel()
                    if gone:
                        self._skip(part)
                    else:  # before anybody waited for it
                        self._done(part, found)
