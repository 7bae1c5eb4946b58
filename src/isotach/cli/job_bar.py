"""Watching a job from the terminal: a bar on standard error while it runs, its failures afterwards.

Owns: how a job looks while somebody waits for it, and the exit code it ends with. Never: ends a job: Ctrl-C ends the
waiting only, and says so.
"""

import errno
import sys
from typing import TYPE_CHECKING

from isotach.base.errors import JobFailedError, os_error
from isotach.conf.units import approximate_size, format_duration

if TYPE_CHECKING:
    from rich.progress import Progress

    from isotach.cli.session import Session
    from isotach.client import FileSystem
    from isotach.client.jobs import JobInfo

_NO_RATE = "-"


def watch(session: "Session", fs: "FileSystem", job: "JobInfo") -> "JobInfo":
    """Waits until the job has ended, with a bar where somebody looks; how it stands then."""
    try:
        if session.out.as_json or not sys.stderr.isatty():
            return fs.jobs.wait(job.id)
        return _with_bar(session, fs, job)
    except KeyboardInterrupt:
        session.failures.warn(f"job {job.id} goes on: `isotach job wait {job.id}`, or `isotach job cancel {job.id}`")
        raise


def report(session: "Session", job: "JobInfo") -> None:
    """What of the job was left undone, on standard error; decides the command's exit code."""
    if job.state == "DONE":
        return
    if not session.out.as_json:  # there they stand in the document
        for path, error in job.failures:
            session.failures.warn(f"failed: {path}: {error}")
        hidden = job.files_failed - len(job.failures)
        if hidden > 0:
            session.failures.warn(f"and {hidden} more files failed")
    try:
        job.check()
    except JobFailedError as error:
        only_room = job.files_unfit and not job.files_failed and not job.problem
        session.failures.report(os_error(errno.ENOSPC, str(error)) if only_room else error)


def text_of(job: "JobInfo") -> str:
    """One line for people."""
    size = approximate_size(job.bytes_done)
    parts = [f"{job.files_done} of {job.files_total}{'' if job.listed else '+'} files, {size}"]
    if job.bytes_per_second:
        parts.append(f"{approximate_size(job.bytes_per_second)}/s")
    if job.eta is not None and not job.has_ended:
        parts.append(f"{format_duration(round(job.eta))} left")
    for count, what in ((job.files_skipped, "skipped"), (job.files_failed, "failed"), (job.files_unfit, "did not fit")):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts)


def _with_bar(session: "Session", fs: "FileSystem", job: "JobInfo") -> "JobInfo":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True, no_color=not session.failures.color)
    with Progress(*columns, console=console, redirect_stdout=False) as progress:
        task = progress.add_task(job.kind.lower(), total=None, told="")

        def show(now: "JobInfo") -> None:
            _update(progress, int(task), now)

        return fs.jobs.wait(job.id, show)


def _update(progress: "Progress", task: int, job: "JobInfo") -> None:
    from rich.progress import TaskID

    by_bytes = job.bytes_total > 0
    total = (job.bytes_total if by_bytes else job.files_total) if job.listed else None
    progress.update(
        TaskID(task),
        total=total,
        completed=job.bytes_done if by_bytes else job.files_over,
        told=text_of(job),
    )
