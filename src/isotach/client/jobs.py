"""Jobs of the master, as users see them: started, looked at, cancelled, waited for.

Owns: `JobInfo`, the calls, and the failure that a job with something left undone is told by. Never: does a job's work
(the master has workers do it), or takes a part for the whole.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from isotach.base.errors import JobFailedError
from isotach.base.limits import JOB_POLL_S
from isotach.base.paths import normalize
from isotach.base.types import CacheState, FileInfo
from isotach.client.operations import Operation, PathLike, Where
from isotach.wire import messages

_SHOWN_FAILURES: Final = 3
_ENDED: Final = ("DONE", "FAILED", "CANCELLED")


class JobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is. Times are seconds since the epoch; `eta` is seconds from now. `state`: WAITING, RUNNING, DONE
    (all of it), FAILED (ended, with something left undone) or CANCELLED."""

    id: int
    kind: str  # LOAD or PERSIST
    path: str
    state: str
    user: str
    options: str
    submitted: float
    started: float | None
    ended: float | None
    listed: bool  # the totals are final
    files_total: int
    bytes_total: int
    files_done: int
    bytes_done: int
    files_skipped: int  # vanished meanwhile, or memory-only
    files_failed: int
    files_unfit: int  # for which the cache has no room
    bytes_unfit: int
    bytes_per_second: int
    eta: float | None
    failures: list[tuple[str, str]]  # (path, error) of the first that failed
    problem: str  # why the job as a whole did not go on

    @property
    def has_ended(self) -> bool:
        return self.state in _ENDED

    @property
    def files_over(self) -> int:
        """Files with which the job is through, whatever became of them."""
        return self.files_done + self.files_skipped + self.files_failed + self.files_unfit

    def check(self) -> None:
        """Raises JobFailedError unless all of it is done."""
        if self.state != "DONE":
            raise JobFailedError(self._undone())

    def _undone(self) -> str:
        if self.state == "CANCELLED":
            return f"job {self.id} was cancelled after {self.files_done} files"
        parts = [self.problem] if self.problem else []
        if self.files_unfit:
            parts.append(f"{self.files_unfit} files ({self.bytes_unfit} bytes) did not fit: add to the tiers")
        if self.files_failed:
            named = "; ".join(f"{path}: {error}" for path, error in self.failures[:_SHOWN_FAILURES])
            parts.append(f"{self.files_failed} files failed ({named})")
        what = "loaded" if self.kind == "LOAD" else "persisted"
        return f"{self.path} was not {what} whole ({self.files_done} files were): {', and '.join(parts)}"


class Progress(msgspec.Struct, frozen=True):
    """One look at a job: how it stands, and (of a followed one) the files done since the look before."""

    job: JobInfo
    files: list[FileInfo]
    files_next: int


def submit_load(
    path: PathLike,
    *,
    recursive: bool = True,
    verify: bool = False,
    bandwidth: int = 0,
    metadata_only: bool = False,
    replicas: int = 1,
    follow: bool = False,
) -> Operation[Progress]:
    """Starts loading, or joins the job that does just that for this user. `bandwidth` is bytes per second, 0 for no
    limit. Raises FileNotFoundError, PermissionError and InvalidArgumentError."""
    request = messages.JobSubmitRequest(
        "LOAD", normalize(path), recursive, verify, bandwidth, metadata_only, replicas, follow
    )
    return Operation(messages.JOB_SUBMIT, request, Where.MASTER, _progress)


def submit_persist(path: PathLike) -> Operation[Progress]:
    """Starts persisting all at or below a path, or joins the job that does."""
    request = messages.JobSubmitRequest("PERSIST", normalize(path))
    return Operation(messages.JOB_SUBMIT, request, Where.MASTER, _progress)


def look(job_id: int, wait_s: float = 0.0, files_after: int = -1) -> Operation[Progress]:
    """How a job stands: at once, or when it has ended but at the latest after `wait_s`. Raises FileNotFoundError."""
    request = messages.JobRequest(job_id, int(wait_s * 1000), files_after)
    return Operation(messages.JOB_STATUS, request, Where.MASTER, _progress)


def cancel(job_id: int) -> Operation[Progress]:
    """Ends a job. Raises FileNotFoundError, and PermissionError for another user's."""
    return Operation(messages.JOB_CANCEL, messages.JobRequest(job_id), Where.MASTER, _progress)


def list_jobs() -> Operation[list[JobInfo]]:
    """All jobs that the master remembers, the newest first."""
    return Operation(
        messages.JOB_LIST, messages.Empty(), Where.MASTER, lambda reply, _: [_info(row) for row in reply.jobs]
    )


class Jobs:
    """The jobs, for the blocking client (`FileSystem.jobs`)."""

    def __init__(self, run: Callable[[Operation[Any]], Any]) -> None:
        self._run = run

    def load(
        self,
        path: PathLike,
        *,
        recursive: bool = True,
        verify: bool = False,
        bandwidth: int = 0,
        metadata_only: bool = False,
        replicas: int = 1,
    ) -> JobInfo:
        """Starts bringing the files at or below a path into the cache; see `submit_load`."""
        operation = submit_load(
            path,
            recursive=recursive,
            verify=verify,
            bandwidth=bandwidth,
            metadata_only=metadata_only,
            replicas=replicas,
        )
        return self._job(operation)

    def persist(self, path: PathLike) -> JobInfo:
        """Starts writing what is only cached, at or below a path, to the under storage."""
        return self._job(submit_persist(path))

    def status(self, job_id: int) -> JobInfo:
        """How a job stands. Raises FileNotFoundError."""
        return self._job(look(job_id))

    def cancel(self, job_id: int) -> JobInfo:
        """Ends a job; how it stands then."""
        return self._job(cancel(job_id))

    def list(self) -> list[JobInfo]:
        """All that the master remembers, the newest first."""
        found: list[JobInfo] = self._run(list_jobs())
        return found

    def wait(self, job_id: int, on_progress: Callable[[JobInfo], None] | None = None) -> JobInfo:
        """Until the job has ended; how it stands then. `on_progress` is called now and then. The job goes on without
        anybody who waits, and through a restart of the master."""
        while True:
            job = self._job(look(job_id, JOB_POLL_S))
            if on_progress is not None:
                on_progress(job)
            if job.has_ended:
                return job

    def follow(self, submitted: Operation[Progress], on_file: Callable[[FileInfo], None] | None) -> JobInfo:
        """Submits and waits; `on_file` is called with each file that is done (but for those done before a restart of
        the master)."""
        progress: Progress = self._run(submitted)
        after = 0
        while True:
            progress = self._run(look(progress.job.id, JOB_POLL_S, after if on_file is not None else -1))
            for info in progress.files:
                if on_file is not None:
                    on_file(info)
            after = progress.files_next
            if progress.job.has_ended:
                return progress.job

    def _job(self, operation: Operation[Progress]) -> JobInfo:
        progress: Progress = self._run(operation)
        return progress.job


def _progress(reply: messages.JobReply, _payload: object) -> Progress:
    return Progress(_info(reply.job), [_file(each) for each in reply.files], max(0, reply.files_next))


def _file(file: messages.JobFile) -> FileInfo:
    cache = file.cache or CacheState(0, file.inode.length)
    return FileInfo(os.fsdecode(file.path), file.inode, None, cache)


def _info(row: messages.JobRow) -> JobInfo:
    return JobInfo(
        id=row.job_id,
        kind=row.kind,
        path=os.fsdecode(row.path),
        state=row.state,
        user=row.user,
        options=row.options,
        submitted=row.submitted_ms / 1000,
        started=row.started_ms / 1000 if row.started_ms else None,
        ended=row.ended_ms / 1000 if row.ended_ms else None,
        listed=row.listed,
        files_total=row.files_total,
        bytes_total=row.bytes_total,
        files_done=row.files_done,
        bytes_done=row.bytes_done,
        files_skipped=row.files_skipped,
        files_failed=row.files_failed,
        files_unfit=row.files_unfit,
        bytes_unfit=row.bytes_unfit,
        bytes_per_second=row.bytes_per_second,
        eta=None if row.eta_ms < 0 else row.eta_ms / 1000,
        failures=[(os.fsdecode(each.path), each.error) for each in row.failures],
        problem=row.problem,
    )


class AsyncJobs:
    """The jobs, for the asynchronous client (`AsyncFileSystem.jobs`): the methods of `Jobs`, awaitable."""

    def __init__(self, run: Callable[[Operation[Any]], Awaitable[Any]]) -> None:
        self._run = run

    async def load(
        self,
        path: PathLike,
        *,
        recursive: bool = True,
        verify: bool = False,
        bandwidth: int = 0,
        metadata_only: bool = False,
        replicas: int = 1,
    ) -> JobInfo:
        operation = submit_load(
            path,
            recursive=recursive,
            verify=verify,
            bandwidth=bandwidth,
            metadata_only=metadata_only,
            replicas=replicas,
        )
        return await self._job(operation)

    async def persist(self, path: PathLike) -> JobInfo:
        return await self._job(submit_persist(path))

    async def status(self, job_id: int) -> JobInfo:
        return await self._job(look(job_id))

    async def cancel(self, job_id: int) -> JobInfo:
        return await self._job(cancel(job_id))

    async def list(self) -> list[JobInfo]:
        found: list[JobInfo] = await self._run(list_jobs())
        return found

    async def wait(self, job_id: int, on_progress: Callable[[JobInfo], None] | None = None) -> JobInfo:
        while True:
            job = await self._job(look(job_id, JOB_POLL_S))
            if on_progress is not None:
                on_progress(job)
            if job.has_ended:
                return job

    async def _job(self, operation: Operation[Progress]) -> JobInfo:
        progress: Progress = await self._run(operation)
        return progress.job
