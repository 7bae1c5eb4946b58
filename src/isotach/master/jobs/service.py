"""The jobs of one master: JOB_SUBMIT, JOB_STATUS, JOB_CANCEL, JOB_LIST, and their life over restarts.

Owns: which jobs run, which wait for their turn, and whose they are. Never: does a job's work.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import (
    JOB_WAIT_MS_MAX,
    JOBS_ENDED_IN_MEMORY_MAX,
    JOBS_RUNNING_MAX,
    JOBS_WAITING_MAX,
    REPLICAS_MAX,
)
from isotach.master.core import Core
from isotach.master.jobs.load import LoadJob
from isotach.master.jobs.persist import PersistJob
from isotach.master.jobs.running import RunningJob, row_of
from isotach.master.locations import Locations
from isotach.master.persistence import Persistence
from isotach.master.sync import Syncer
from isotach.master.workers import WorkerRegistry
from isotach.namespace import jobs, permissions
from isotach.namespace.jobs import JobRecord
from isotach.namespace.lookup import resolve
from isotach.namespace.policies import is_memory_only
from isotach.namespace.symlinks import refuse_symlink
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.messages import Empty, JobListReply, JobReply, JobRequest, JobSubmitRequest

log = get_logger("master.jobs")
LOAD, PERSIST = "LOAD", "PERSIST"


class Jobs:
    """One per master. For the event-loop thread."""

    def __init__(
        self, core: Core, *, syncer: Syncer, locations: Locations, workers: WorkerRegistry, persistence: Persistence
    ) -> None:
        self._core = core
        self._syncer = syncer
        self._locations = locations
        self._workers = workers
        self._persistence = persistence
        self._running: dict[int, tuple[RunningJob, asyncio.Task[None]]] = {}
        self._waiting: OrderedDict[int, RunningJob] = OrderedDict()
        self._ended: OrderedDict[int, RunningJob] = OrderedDict()
        self._files: Counter[str] = Counter()
        self._makers: dict[str, Callable[[JobRecord, bool], RunningJob]] = {LOAD: self._load, PERSIST: self._persist}

    @property
    def running(self) -> int:
        """How many run now."""
        return len(self._running)

    @property
    def files(self) -> dict[str, int]:
        """Files of jobs that ended in this process, by outcome."""
        return dict(self._files)

    def resume(self) -> None:
        """After a start: goes on with what the former process had not ended."""
        with self._core.reading() as view:
            records = [record for record in jobs.all_jobs(view) if not record.has_ended]
        for record in records:
            log.info("job_resumed", job=record.job_id, kind=record.kind, done=record.counts.files_done)
            self._waiting[record.job_id] = self._makers[record.kind](record, False)
        self._start_waiting()

    # --- handlers ---

    async def submit(self, request: JobSubmitRequest, peer: Peer) -> JobReply:
        """Raises FileNotFoundError, PermissionError and what the under storage raises for the path itself, and
        InvalidArgumentError for options that make no sense."""
        self._check(request)
        actor = self._core.identity.actor(peer)
        await self._syncer.load(request.path)
        with self._core.reading() as view:
            found = resolve(view, request.path, actor, permissions.READ)
        refuse_symlink(found.inode, request.path)
        if request.kind == PERSIST and not found.inode.is_dir and is_memory_only(found.inode):
            raise InvalidArgumentError("the file is memory-only: it must not be written out")
        record = JobRecord(
            self._core.ids.allocate(),
            request.kind,
            request.path,
            actor.user,
            sorted(actor.groups),
            actor.superuser,
            self._core.clock.now_ms(),
            request.recursive,
            request.verify,
            request.bandwidth,
            request.metadata_only,
            request.replicas,
        )
        same = self._same_as(record)
        if same is not None:
            return same.reply(-1)
        if len(self._waiting) >= JOBS_WAITING_MAX:
            raise InvalidArgumentError(f"{JOBS_WAITING_MAX} jobs wait already, which is the limit: cancel some")
        job = self._makers[record.kind](record, request.follow)
        self._waiting[record.job_id] = job
        try:
            await self._core.pipeline.submit(lambda view: jobs.add(view, record))
        except BaseException:
            self._waiting.pop(record.job_id, None)
            raise
        self._start_waiting()
        return job.reply(-1)

    async def status(self, request: JobRequest, _peer: Peer) -> JobReply:
        """Raises FileNotFoundError when there is no such job, or not any more."""
        job = self._known(request.job_id)
        if job is None:
            return self._from_store(request.job_id)
        if request.wait_ms > 0 and not job.ended.is_set():
            try:
                async with asyncio.timeout(min(request.wait_ms, JOB_WAIT_MS_MAX) / 1000):
                    await job.ended.wait()
            except TimeoutError:
                pass
        return job.reply(request.files_after)

    async def cancel(self, request: JobRequest, peer: Peer) -> JobReply:
        """What was begun for single files goes on to its end. A job that has ended stays as it is. Raises
        FileNotFoundError, PermissionError for another user's job."""
        job = self._known(request.job_id)
        if job is None:
            return self._from_store(request.job_id)
        actor = self._core.identity.actor(peer)
        if not actor.superuser and actor.user != job.record.user:
            raise PermissionError(1, f"the job belongs to {job.record.user!r}: ask them to cancel it")
        if job.record.has_ended:
            return job.reply(-1)
        self._waiting.pop(request.job_id, None)
        under_way = self._running.get(request.job_id)
        if under_way is not None:
            under_way[1].cancel()
            await asyncio.wait([under_way[1]])
        if not job.record.has_ended:
            await job.cancel()
            self._keep(job)
            self._start_waiting()
        return job.reply(-1)

    def list(self, _request: Empty, _peer: Peer) -> JobListReply:
        """All of them: what they are about is no secret."""
        with self._core.reading() as view:
            records = jobs.all_jobs(view)
        rows = []
        for record in reversed(records):
            job = self._known(record.job_id)
            rows.append(row_of(record) if job is None else job.row())
        return JobListReply(rows)

    # --- inside ---

    def _check(self, request: JobSubmitRequest) -> None:
        if request.kind not in self._makers:
            raise InvalidArgumentError(f"there is no job of the kind {request.kind!r}: give {', '.join(self._makers)}")
        if not 1 <= request.replicas <= REPLICAS_MAX:
            raise InvalidArgumentError(f"{request.replicas} replicas are not possible: give 1 to {REPLICAS_MAX}")
        if request.bandwidth < 0:
            raise InvalidArgumentError("a bandwidth below zero is not possible: give bytes per second, or none")

    def _same_as(self, record: JobRecord) -> RunningJob | None:
        """A job that does the same for the same user already: also what a submission that was sent again finds."""
        jobs_now = [*self._waiting.values(), *(job for job, _ in self._running.values())]
        return next((job for job in jobs_now if _asked(job.record) == _asked(record)), None)

    def _known(self, job_id: int) -> RunningJob | None:
        running = self._running.get(job_id)
        if running is not None:
            return running[0]
        return self._waiting.get(job_id) or self._ended.get(job_id)

    def _from_store(self, job_id: int) -> JobReply:
        with self._core.reading() as view:
            record = jobs.find(view, job_id)
        if record is None:
            raise FileNotFoundError(2, f"there is no job {job_id}, or not any more: see `isotach job list`")
        return JobReply(row_of(record))

    def _load(self, record: JobRecord, follow: bool) -> RunningJob:
        return LoadJob(
            self._core, self._syncer, record, locations=self._locations, workers=self._workers, follow=follow
        )

    def _persist(self, record: JobRecord, follow: bool) -> RunningJob:
        queue, wait_for = self._persistence.queue, self._persistence.wait_for
        return PersistJob(self._core, self._syncer, record, queue=queue, wait_for=wait_for, follow=follow)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < JOBS_RUNNING_MAX:
            job_id, job = self._waiting.popitem(last=False)
            task = self._core.background.spawn("job", job.run())
            self._running[job_id] = (job, task)
            task.add_done_callback(lambda task, job=job: self._over(job, task))  # type: ignore[misc]

    def _over(self, job: RunningJob, task: "asyncio.Task[None]") -> None:
        self._running.pop(job.record.job_id, None)
        if not task.cancelled():  # else by `cancel`, or by the end of this process
            self._keep(job)
            self._start_waiting()

    def _keep(self, job: RunningJob) -> None:
        """For those who still follow it."""
        self._ended[job.record.job_id] = job
        counts = job.record.counts
        self._files += Counter(
            done=counts.files_done, skipped=counts.files_skipped, failed=counts.files_failed, unfit=counts.files_unfit
        )
        while len(self._ended) > JOBS_ENDED_IN_MEMORY_MAX:
            self._ended.popitem(last=False)


def _asked(record: JobRecord) -> tuple[object, ...]:
    return (
        record.kind, record.path, record.user, record.recursive, record.verify, record.bandwidth,
        record.metadata_only, record.replicas,
    )  # fmt: skip
