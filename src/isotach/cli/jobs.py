"""`isotach job list`, `status`, `cancel` and `wait`.

Owns: the columns. Never: starts a job (`fs load` and `fs persist` do).
"""

from typing import TYPE_CHECKING, Annotated

import typer

from isotach.cli.entry_text import time_text
from isotach.cli.fs.cache import facts_of
from isotach.cli.job_bar import report, text_of, watch
from isotach.cli.output import Column
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.client.jobs import JobInfo

JobArgument = Annotated[int, typer.Argument(metavar="ID", help="The number of the job; see `isotach job list`.")]
_COLUMNS = (
    Column("id", right=True),
    Column("kind"),
    Column("state", style="cyan"),
    Column("submitted", style="dim"),
    Column("user"),
    Column("path"),
    Column("so far"),
)


def list_jobs(context: typer.Context) -> None:
    """Lists the jobs of the cluster, the newest first; with --json one object per line.

    isotach job list
    """
    session = session_of(context)
    with session.connect() as fs:
        found = fs.jobs.list()
    if session.out.as_json:
        for job in found:
            session.out.json_line(facts_of(job))
    else:
        session.out.table(_COLUMNS, [_row(job) for job in found])


def status(context: typer.Context, job_id: JobArgument) -> None:
    """Shows how far a job is, and what failed.

    isotach job status 1042
    """
    session = session_of(context)
    with session.connect() as fs:
        _show(session, fs.jobs.status(job_id))


def cancel(context: typer.Context, job_id: JobArgument) -> None:
    """Ends a job; what it has done stays.

    isotach job cancel 1042
    """
    session = session_of(context)
    with session.connect() as fs:
        job = fs.jobs.cancel(job_id)
    session.out.done("cancel", facts_of(job), text_of(job) if session.out.terminal else "")


def wait(context: typer.Context, job_id: JobArgument) -> None:
    """Waits until a job has ended; the exit code says whether all of it was done.

    isotach job wait 1042
    """
    session = session_of(context)
    with session.connect() as fs:
        job = watch(session, fs, fs.jobs.status(job_id))
    _show(session, job)
    report(session, job)
    session.finish()


def _show(session: Session, job: "JobInfo") -> None:
    if session.out.as_json:
        session.out.document(facts_of(job))
        return
    session.out.table(_COLUMNS, [_row(job)])
    for path, error in job.failures:
        session.out.line(f"failed\t{session.out.path(path)}\t{error}")
    if job.problem:
        session.out.line(f"problem\t{job.problem}")


def _row(job: "JobInfo") -> tuple[str, ...]:
    when = time_text(job.submitted)
    return str(job.id), job.kind, job.state, when, job.user, job.path, text_of(job)
