"""The records of jobs: what was asked, how far it is, what failed.

Owns: their rows in the store. Never: carries a job out (`master.jobs` does).
"""

from typing import Final

import msgspec

from isotach.base.limits import JOBS_KEPT_MAX
from isotach.namespace import keys
from isotach.namespace.view import View

WAITING: Final = "WAITING"
RUNNING: Final = "RUNNING"
DONE: Final = "DONE"
FAILED: Final = "FAILED"
CANCELLED: Final = "CANCELLED"


class JobCounts(msgspec.Struct, array_like=True):
    """What became of the files so far."""

    files_done: int = 0
    bytes_done: int = 0
    files_skipped: int = 0
    files_failed: int = 0
    files_unfit: int = 0
    bytes_unfit: int = 0

    def add(self, other: "JobCounts") -> None:
        """Takes the other's counts in."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class JobRecord(msgspec.Struct, array_like=True, frozen=True):
    """One job, as stored. `cursor` is a bookmark of its walk: all before it is done and counted."""

    job_id: int
    kind: str
    path: bytes
    user: str
    groups: list[str]
    superuser: bool
    submitted_ms: int
    recursive: bool = True
    verify: bool = False
    bandwidth: int = 0
    metadata_only: bool = False
    replicas: int = 1
    state: str = WAITING
    started_ms: int = 0
    ended_ms: int = 0
    cursor: bytes = b""
    counts: JobCounts = msgspec.field(default_factory=JobCounts)
    failures: list[tuple[bytes, str]] = []
    problem: str = ""
    files_total: int = 0
    bytes_total: int = 0

    @property
    def has_ended(self) -> bool:
        return self.state in (DONE, FAILED, CANCELLED)


_decoder: Final = msgspec.msgpack.Decoder(JobRecord)


def store(view: View, record: JobRecord) -> None:
    """Writes the record."""
    view.put(keys.job(record.job_id), msgspec.msgpack.encode(record))


def find(view: View, job_id: int) -> JobRecord | None:
    """The record, or None when there never was such a job or it is forgotten."""
    raw = view.get(keys.job(job_id))
    return None if raw is None else _decoder.decode(raw)


def all_jobs(view: View) -> list[JobRecord]:
    """All records, the oldest first."""
    return [_decoder.decode(raw) for _, raw in view.scan(*keys.all_of(b"j"))]


def add(view: View, record: JobRecord) -> None:
    """Writes a new record; the oldest of those that have ended are forgotten when there are too many."""
    ended = [each.job_id for each in all_jobs(view) if each.has_ended]
    for job_id in ended[: max(0, len(ended) + 1 - JOBS_KEPT_MAX)]:
        view.delete(keys.job(job_id))
    store(view, record)
