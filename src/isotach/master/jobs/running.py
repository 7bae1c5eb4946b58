"""One job while it runs: its counts, its walk in slices, and the durable cursor behind them.

Owns: what is common to all kinds of jobs. Never: knows what is done to a file (`load`, `persist`).

A slice is over when each of its files is settled (done, skipped, failed, or without room). The cursor moves only over
slices that are over, together with their counts: a job that goes on in another process looks again at what was under
way, and counts nothing twice.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

import msgspec

from isotach.base.errors import IsotachError, told
from isotach.base.failpoints import fail_at
from isotach.base.limits import JOB_FAILURES_IN_A_ROW_MAX, JOB_FAILURES_KEPT_MAX, JOB_FILES_KEPT_MAX, JOB_SAVE_S
from isotach.base.types import CacheState
from isotach.master.core import Core
from isotach.master.identity import numbered
from isotach.master.jobs.tree import Found, Tree
from isotach.master.sync import Syncer
from isotach.namespace import jobs
from isotach.namespace.actor import Actor
from isotach.namespace.jobs import JobCounts, JobRecord
from isotach.obs.log import get_logger
from isotach.wire.messages import JobFailure, JobFile, JobReply, JobRow

log = get_logger("master.jobs")


class JobStoppedError(IsotachError):
    """The job as a whole cannot go on; the message says why."""


class Slice:
    """Files of one slice of the walk, and what became of them."""

    __slots__ = ("counts", "cursor", "failures", "open_files")

    def __init__(self, cursor: bytes, open_files: int) -> None:
        self.cursor = cursor
        self.open_files = open_files
        self.counts = JobCounts()
        self.failures: list[tuple[bytes, str]] = []


class RunningJob:
    """See the module. For the event-loop thread. Subclasses give `_work`."""

    def __init__(self, core: Core, syncer: Syncer, record: JobRecord, *, follow: bool) -> None:
        self.record = record
        self.ended = asyncio.Event()
        self._core = core
        self._syncer = syncer
        self._actor = numbered(Actor(record.user, frozenset(record.groups), record.superuser))
        self._slices: deque[Slice] = deque()
        self._changed = asyncio.Event()
        self._listed = False
        self._files_total = self._bytes_total = 0
        self._failures_in_a_row = 0
        self._last_failure = ""
        self._saved_mono = core.clock.monotonic()
        self._started_mono = self._saved_mono
        self._started_bytes = record.counts.bytes_done
        self._settled: deque[JobFile] | None = deque(maxlen=JOB_FILES_KEPT_MAX) if follow else None
        self._settled_count = 0

    # --- its life ---

    async def run(self) -> None:
        """To its end; the record then says which. A cancelled task leaves the record as it is, for the next process."""
        self.record = msgspec.structs.replace(
            self.record, state=jobs.RUNNING, started_ms=self.record.started_ms or self._core.clock.now_ms()
        )
        await self._save()
        problem = ""
        try:
            async with asyncio.TaskGroup() as group:
                survey = group.create_task(self._survey())
                await self._work()
                await survey
        except BaseExceptionGroup as failed:
            problem = self._problem_of(failed.exceptions[0])
        await self._end(problem)

    async def cancel(self) -> None:
        """Makes the record say so; the owner of the task cancels that."""
        self.record = msgspec.structs.replace(self.record, state=jobs.CANCELLED)  # `_end` adds the slices under way
        await self._end("")

    async def _work(self) -> None:
        raise NotImplementedError

    def _problem_of(self, error: BaseException) -> str:
        if isinstance(error, IsotachError | OSError):
            return told(error)
        log.error("job_failed", job=self.record.job_id, error=error, exc_info=error)
        return f"{type(error).__name__}: {error}"

    async def _end(self, problem: str) -> None:
        record = self._merged()
        counts = record.counts
        whole = not problem and not counts.files_failed and not counts.files_unfit and not record.failures
        state = record.state if record.has_ended else jobs.DONE if whole else jobs.FAILED
        self.record = msgspec.structs.replace(
            record,
            state=state,
            ended_ms=self._core.clock.now_ms(),
            problem=problem,
            files_total=self._files_total,
            bytes_total=self._bytes_total,
        )
        self._slices.clear()
        await self._save()
        log.info("job_ended", job=record.job_id, kind=record.kind, state=state, files=counts.files_done)
        self.ended.set()

    # --- the walk ahead: totals, and the listings of the store ---

    def _tree(self, *, sync: bool, anew: bool = False) -> Tree:
        recursive = self.record.recursive
        return Tree(self._core, self._syncer, self._actor, sync=sync, anew=anew, recursive=recursive)

    async def _survey(self) -> None:
        """Goes ahead of the work and counts."""
        async for found in self._tree(sync=True).slices(self.record.path):
            self._files_total += len(found.files)
            self._bytes_total += sum(each.inode.length for each in found.files)
        self._listed = True

    # --- slices ---

    def _open(self, cursor: bytes, open_files: int, failures: Iterable[tuple[bytes, str]]) -> Slice:
        slice_ = Slice(cursor, open_files + 1)  # the one more is for the walk itself: see `_close`
        for path, error in failures:
            self._fail_in(slice_, path, error)
        self._slices.append(slice_)
        return slice_

    def _close(self, slice_: Slice) -> None:
        """All files of the slice are under way."""
        self._one_less(slice_)

    def _done(self, slice_: Slice, found: Found, cache: CacheState | None = None) -> None:
        slice_.counts.files_done += 1
        slice_.counts.bytes_done += found.inode.length
        self._failures_in_a_row = 0
        if self._settled is not None:
            self._settled.append(JobFile(found.path, found.inode, cache))
            self._settled_count += 1
        self._one_less(slice_)

    def _skip(self, slice_: Slice) -> None:
        slice_.counts.files_skipped += 1
        self._one_less(slice_)

    def _fail(self, slice_: Slice, path: bytes, error: str) -> None:
        self._fail_in(slice_, path, error)
        self._failures_in_a_row += 1
        self._last_failure = error
        self._one_less(slice_)

    def _unfit(self, slice_: Slice, found: Found) -> None:
        """There is no room for it."""
        slice_.counts.files_unfit += 1
        slice_.counts.bytes_unfit += found.inode.length
        self._one_less(slice_)

    def _fail_in(self, slice_: Slice, path: bytes, error: str) -> None:
        slice_.counts.files_failed += 1
        if len(slice_.failures) < JOB_FAILURES_KEPT_MAX:
            slice_.failures.append((path, error))

    def _one_less(self, slice_: Slice) -> None:
        slice_.open_files -= 1
        self._changed.set()
        if slice_.open_files or not self._slices or slice_ is not self._slices[0]:
            return
        while self._slices and not self._slices[0].open_files:
            over = self._slices.popleft()
            self.record = _with(self.record, [over], over.cursor)
        now = self._core.clock.monotonic()
        if now - self._saved_mono > JOB_SAVE_S:
            self._saved_mono = now
            self._core.background.spawn("save-job", self._save())

    def _merged(self) -> JobRecord:
        """The record with what is known of the slices under way, whose files a next process would look at again."""
        return _with(self.record, self._slices, self.record.cursor)

    async def _save(self) -> None:
        fail_at("master.before_job_save")
        record = self.record
        await self._core.pipeline.submit(lambda view: jobs.store(view, record))

    def _check_luck(self) -> None:
        """Raises JobStoppedError when nothing but failures came for long: the store is away, most likely, and asking it
        for each of a million files would help nobody."""
        if self._failures_in_a_row >= JOB_FAILURES_IN_A_ROW_MAX:
            raise JobStoppedError(
                f"{self._failures_in_a_row} files in a row failed, the last with: {self._last_failure}"
            )

    async def _wait_for_change(self, timeout_s: float | None = None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    # --- what others see ---

    def reply(self, files_after: int) -> JobReply:
        """How far it is, with the files done since `files_after` if those are kept."""
        files: list[JobFile] = []
        if files_after >= 0 and self._settled is not None:
            wanted = min(len(self._settled), self._settled_count - files_after)
            files = [self._settled[-index] for index in range(wanted, 0, -1)]
        return JobReply(self.row(), files, self._settled_count)

    def row(self) -> JobRow:
        """How far it is."""
        row = row_of(self._merged())
        if self.record.has_ended:
            return row
        elapsed_s = max(1e-3, self._core.clock.monotonic() - self._started_mono)
        rate = int((row.bytes_done - self._started_bytes) / elapsed_s)
        left = max(0, self._bytes_total - row.bytes_done)
        return msgspec.structs.replace(
            row,
            listed=self._listed,
            files_total=self._files_total,
            bytes_total=self._bytes_total,
            bytes_per_second=rate,
            eta_ms=left * 1000 // rate if self._listed and rate > 0 else -1,
        )


def _with(record: JobRecord, slices: Iterable[Slice], cursor: bytes) -> JobRecord:
    counts = msgspec.structs.replace(record.counts)
    failures = list(record.failures)
    for slice_ in slices:
        counts.add(slice_.counts)
        failures += slice_.failures[: JOB_FAILURES_KEPT_MAX - len(failures)]
    return msgspec.structs.replace(record, counts=counts, failures=failures, cursor=cursor)


def row_of(record: JobRecord) -> JobRow:
    """A record as it is sent."""
    counts = record.counts
    elapsed_ms = max(1, record.ended_ms - record.started_ms)
    return JobRow(
        record.job_id,
        record.kind,
        record.path,
        record.state,
        record.user,
        record.submitted_ms,
        record.started_ms,
        record.ended_ms,
        record.has_ended,
        record.files_total,
        record.bytes_total,
        counts.files_done,
        counts.bytes_done,
        counts.files_skipped,
        counts.files_failed,
        counts.files_unfit,
        counts.bytes_unfit,
        bytes_per_second=counts.bytes_done * 1000 // elapsed_ms if record.has_ended else 0,
        failures=[JobFailure(path, error) for path, error in record.failures],
        problem=record.problem,
        options=_options_text(record),
    )


def _options_text(record: JobRecord) -> str:
    said = [
        "" if record.recursive else "not recursive",
        "metadata only" if record.metadata_only else "",
        "verify" if record.verify else "",
        f"at most {record.bandwidth} bytes/s" if record.bandwidth else "",
        f"{record.replicas} replicas" if record.replicas > 1 else "",
    ]
    return ", ".join(text for text in said if text)
