"""`isotach worker list` and `isotach worker decommission`: who works in the cluster, and sending one away.

Owns: their flags, the table, the bar while data moves off. Never: stops a worker's process: who runs it does, when
nothing is only there any more.
"""

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from isotach.cli.output import Column, Output
from isotach.cli.progress import Bar, transfer_bar
from isotach.cli.session import Session, session_of
from isotach.cli.status import failed_folders
from isotach.conf.units import approximate_size

if TYPE_CHECKING:
    from isotach.base.types import WorkerInfo
    from isotach.client import FileSystem, LeavingWorker

_POLL_S: Final = 0.5
_COLUMNS: Final = (
    Column("worker", style="cyan"),
    Column("state"),
    Column("host"),
    Column("address"),
    Column("locality"),
    Column("files", right=True),
    Column("used", right=True),
    Column("of", right=True),
)
_LEAVING: Final = (
    Column("worker", style="cyan"),
    Column("state"),
    Column("host"),
    Column("files left", right=True),
    Column("bytes left", right=True),
    Column("problem", style="red"),
)


def list_workers(context: typer.Context) -> None:
    """Lists the workers that the master knows, live, leaving or lost.

    In a pipe: id, state, host, address, locality, files held, bytes used, capacity in bytes.

    isotach worker list
    isotach worker list --json
    """
    session = session_of(context)
    with session.connect() as fs:
        workers = fs.workers()
    if session.out.as_json:
        for worker in workers:
            session.out.json_line(worker)
        return
    rows = [_cells(session.out, worker) for worker in workers]
    if session.out.terminal:  # 80 columns are not room for all; `isotach status` has the addresses
        left_out = {"address"} if any(_has_own_locality(worker) for worker in workers) else {"address", "locality"}
        kept = [index for index, column in enumerate(_COLUMNS) if column.title not in left_out]
        session.out.table([_COLUMNS[index] for index in kept], [[row[index] for index in kept] for row in rows])
    else:
        session.out.table(_COLUMNS, rows)
    for worker in workers:
        for alias, folder in failed_folders(worker):
            session.failures.warn(
                f"{worker.worker_id}: {alias} folder {folder.path} is out of service: {folder.failure}"
            )


def decommission(
    context: typer.Context,
    worker: Annotated[
        str, typer.Argument(metavar="WORKER", help="Id of a worker, or a host name for all of its workers.")
    ],
    cancel: Annotated[bool, typer.Option("--cancel", help="It stays after all.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until nothing is left only there, with a bar.")] = False,
) -> None:
    """Sends a worker away: it gets nothing new, and what only it holds moves to others. Reads from it go on.

    When its state is DECOMMISSIONED, its process may be stopped and nothing is lost. Files that an under storage has
    may go with it: they are read from there again. Called again it says how far the worker is.

    isotach worker decommission worker-3f2a --wait
    isotach worker decommission node7 --cancel
    """
    session = session_of(context)
    with session.connect() as fs:
        leaving = fs.decommission(worker, cancel=cancel)
        if wait and not cancel:
            try:
                leaving = _wait(session, fs, worker, leaving)
            except KeyboardInterrupt:
                session.failures.warn(
                    f"{worker} goes on leaving: `isotach worker decommission {worker} --cancel` ends that"
                )
                raise
    if session.out.as_json:
        session.out.document({"workers": leaving})
    else:
        session.out.table(_LEAVING, map(_leaving_cells, leaving))


def _wait(session: Session, fs: "FileSystem", worker: str, leaving: "list[LeavingWorker]") -> "list[LeavingWorker]":
    told = ""
    with transfer_bar("moving off", session.out, session.failures) as bar:
        left = sum(each.bytes_left for each in leaving)
        bar.found(left)
        while any(each.state != "DECOMMISSIONED" for each in leaving):
            time.sleep(_POLL_S)
            leaving = fs.leaving(worker)
            left = _advance(bar, left, sum(each.bytes_left for each in leaving))
            problem = next((each.problem for each in leaving if each.problem), "")
            if problem and problem != told:
                session.failures.warn(f"it cannot go on at present: {problem}")
            told = problem
    return leaving


def _advance(bar: Bar, before: int, now: int) -> int:
    """More may be left than before: a write that was under way has ended there."""
    if now > before:
        bar.found(now - before)
    else:
        bar.moved(before - now)
    return now


def _leaving_cells(each: "LeavingWorker") -> tuple[str, ...]:
    return (each.worker_id, each.state, each.host, str(each.files_left), str(each.bytes_left), each.problem)


def _has_own_locality(worker: "WorkerInfo") -> bool:
    return any((tier, name) != ("node", worker.host) for tier, name in worker.locality)


def _cells(out: Output, worker: "WorkerInfo") -> tuple[str, ...]:
    used = sum(tier.used_bytes for tier in worker.tiers)
    capacity = sum(tier.capacity_bytes for tier in worker.tiers)
    sizes = (approximate_size(used), approximate_size(capacity)) if out.terminal else (str(used), str(capacity))
    state = worker.state if worker.live or worker.state == "DECOMMISSIONED" else f"{worker.state} (away)"
    if worker.state == "LOST":
        state = "LOST"
    locality = ",".join(f"{tier}={name}" for tier, name in worker.locality)
    return (worker.worker_id, state, worker.host, worker.address, locality, str(worker.versions), *sizes)
