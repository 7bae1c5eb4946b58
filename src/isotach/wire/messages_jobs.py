"""Calls about jobs: long work that the master carries on with, whether or not anybody waits for it.

Owns: the requests and replies. Never: encodes them (`frames.py`) or numbers them (`messages.py`). Paths are canonical
bytes; durations are ms, sizes bytes, times ms since the epoch.
"""

from isotach.base.types import CacheState, Inode
from isotach.wire.message_base import Message


class JobSubmitRequest(Message, frozen=True):
    """Starts a job, or joins one that does exactly this for this user already. kind: LOAD (bring the files at or below
    `path` into the cache) or PERSIST (write what is only cached to the under storage)."""

    kind: str
    path: bytes
    recursive: bool = True
    verify: bool = False  # of LOAD: compare what was loaded with the under storage
    bandwidth: int = 0  # bytes per second that the whole job moves at most; 0: no limit
    metadata_only: bool = False  # of LOAD: names and sizes only
    replicas: int = 1  # of LOAD: workers that shall hold each file
    follow: bool = False  # keep the files that are done for `JobRequest.files_after`


class JobRequest(Message, frozen=True):
    """One job. `wait_ms`: answer when it has ended, at the latest after this time."""

    job_id: int
    wait_ms: int = 0
    files_after: int = -1  # of a followed job: also give the files that were done after this number; -1: none


class JobFailure(Message, frozen=True):
    path: bytes
    error: str


class JobRow(Message, frozen=True):
    """How far a job is. `state`: WAITING, RUNNING, DONE (all of it), FAILED (ended, but not all could be done) or
    CANCELLED. `failures` are the first of those that `files_failed` counts."""

    job_id: int
    kind: str
    path: bytes
    state: str
    user: str = ""
    submitted_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    listed: bool = False  # `files_total` and `bytes_total` are final
    files_total: int = 0
    bytes_total: int = 0
    files_done: int = 0
    bytes_done: int = 0
    files_skipped: int = 0  # vanished meanwhile, or left out because they are memory-only
    files_failed: int = 0
    files_unfit: int = 0  # for which the cache has no room
    bytes_unfit: int = 0
    bytes_per_second: int = 0
    eta_ms: int = -1  # -1: not known
    failures: list[JobFailure] = []
    problem: str = ""  # why the job as a whole did not go on
    options: str = ""  # for people: `verify, at most 100MiB/s`


class JobFile(Message, frozen=True):
    """A file that is done."""

    path: bytes
    inode: Inode
    cache: CacheState | None = None


class JobReply(Message, frozen=True):
    """`files_next` goes into `JobRequest.files_after` of the next call."""

    job: JobRow
    files: list[JobFile] = []
    files_next: int = -1


class JobListReply(Message, frozen=True):
    """All jobs that are not forgotten yet, the newest first."""

    jobs: list[JobRow]
