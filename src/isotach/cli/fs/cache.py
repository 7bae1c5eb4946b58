"""`isotach fs load`, `free`, `persist`, `pin` and `unpin`: what the cache and the under storage hold.

Owns: their flags and what they tell. Never: moves a byte: workers do, at the word of the master's jobs.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from isotach.cli.arguments import PathsArgument
from isotach.cli.job_bar import report, text_of, watch
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.client import FileSystem
    from isotach.client.jobs import JobInfo
    from isotach.client.policies import ChangeCounts

WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is done; else its job goes on alone.")]


def load(
    context: typer.Context,
    paths: PathsArgument,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compares what was loaded with the under storage, byte by byte.")
    ] = False,
    bandwidth: Annotated[
        str | None, typer.Option("--bandwidth", metavar="SIZE", help="Bytes per second at most, such as 100MiB.")
    ] = None,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Names and sizes: lists all directories anew, moves no data.")
    ] = False,
    replicas: Annotated[int, typer.Option("--replicas", min=1, help="Workers that shall hold each file.")] = 1,
    wait: WaitOption = True,
) -> None:
    """Brings files, and everything below directories, into the cache, and waits.

    All workers take part, and the job goes on if this command is ended, or the master restarts. Exit code 0 means that
    everything is in the cache. Files that failed are listed (the first 100 by name) and end it with 1; when the cache
    had no room for all, what was loaded stays and the exit code is 8. Starting the same load again joins it.

    isotach fs load /s3/training
    isotach fs load --verify --bandwidth 100MiB /s3/training
    isotach fs load --metadata-only --json /s3
    """
    from isotach.conf.units import parse_size

    session = session_of(context)
    limit = 0 if bandwidth is None else parse_size(bandwidth.lower().removesuffix("/s"))

    def start(fs: "FileSystem", path: str) -> "JobInfo":
        return fs.jobs.load(path, verify=verify, bandwidth=limit, metadata_only=metadata_only, replicas=replicas)

    _run_jobs(session, paths, "load", start, wait)


def free(
    context: typer.Context,
    paths: PathsArgument,
    recursive: Annotated[bool, typer.Option("-R", "--recursive", help="Everything below directories.")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Pinned files as well, which ends the pin.")] = False,
) -> None:
    """Drops files from the cache; nothing is lost: only what the under storage holds is dropped.

    Files that are not persisted, pinned, or kept by a replication minimum stay, and are counted.

    isotach fs free -R /s3/training
    isotach fs free -R -f /s3
    """
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                done = fs.free_counts(path, recursive, force)
                left = {"unpersisted": done.unpersisted, "pinned": done.pinned}
                told = _told(session.out.terminal, "freed", done.freed, path)
                for count, why in ((done.unpersisted, "not persisted"), (done.pinned, "pinned")):
                    if told and count:
                        told += f", {count} left: {why}"
                session.out.done("free", {"path": path, "files": done.freed, "left": left}, told)
    session.finish()


def persist(context: typer.Context, paths: PathsArgument, wait: WaitOption = True) -> None:
    """Writes files, and everything below directories, that are only cached to the under storage.

    Memory-only files are left out, and counted. What fails stays queued and is tried again, but is told.

    isotach fs persist /results
    """
    _run_jobs(session_of(context), paths, "persist", lambda fs, path: fs.jobs.persist(path), wait)


def pin(
    context: typer.Context,
    paths: PathsArgument,
    tier: Annotated[
        str | None, typer.Option("--tier", metavar="ALIAS", help="Keeps them in this tier: MEM, SSD, HDD.")
    ] = None,
) -> None:
    """Keeps files, and everything in directories (what is to come as well), from being evicted.

    isotach fs pin /s3/hot
    isotach fs pin --tier MEM /s3/hot
    """

    def pin_one(fs: "FileSystem", path: str) -> "ChangeCounts":
        counts = fs.pin(path, True, tier)
        warn_of_missing_tier(session_of(context), fs, tier)
        return counts

    _change(context, paths, "pin", pin_one)


def unpin(context: typer.Context, paths: PathsArgument) -> None:
    """Lets pinned files be evicted again.

    isotach fs unpin /s3/hot
    """
    _change(context, paths, "unpin", lambda fs, path: fs.unpin(path))


def _run_jobs(
    session: Session, paths: list[str], name: str, start: "Callable[[FileSystem, str], JobInfo]", wait: bool
) -> None:
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                job = start(fs, path)
                if wait:
                    job = watch(session, fs, job)
                told = f"{name} {path}: {text_of(job)}" if wait else f"job {job.id}"
                shown = session.out.terminal or not wait
                session.out.done(name, facts_of(job), told if shown else "")
                if wait:
                    report(session, job)
    session.finish()


def facts_of(job: "JobInfo") -> dict[str, object]:
    """A job as a JSON object: its fields, failures as objects."""
    facts: dict[str, object] = {field: getattr(job, field) for field in job.__struct_fields__}
    failures = [{"path": path, "error": error} for path, error in job.failures]
    return {**facts, "files": job.files_done, "failures": failures}


def _change(
    context: typer.Context, paths: list[str], name: str, action: "Callable[[FileSystem, str], ChangeCounts]"
) -> None:
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                counts = action(fs, path)
                session.out.done(name, {"path": path, "changed": counts.changed, "skipped": counts.skipped})
    session.finish()


def warn_of_missing_tier(session: Session, fs: "FileSystem", tier: str | None) -> None:
    """On standard error when no worker has such a tier: it may come later, and it may be a slip of the pen."""
    there = sorted({each.alias for worker in fs.workers() for each in worker.tiers} if tier else ())
    if tier and tier.upper() not in there:
        session.failures.warn(f"no worker has a tier {tier} at present: there is {', '.join(there) or 'none'}")


def _told(wanted: bool, verb: str, count: int, path: str) -> str:
    return f"{verb} {count} file{'' if count == 1 else 's'} in {path}" if wanted else ""
