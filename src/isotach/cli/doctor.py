"""`isotach doctor`: what this machine can do, and what to do where it cannot.

Owns: the table. Never: finds anything out about the kernel itself (`fuse.kernel.support` does), or repairs.
"""

from typing import TYPE_CHECKING, Final

import typer

from isotach.base.errors import IsotachError, told
from isotach.cli.output import Column
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.client import FileSystem
    from isotach.fuse.kernel.support import Capability

_COLUMNS: Final = (Column("what", style="cyan"), Column(""), Column("found"), Column("what to do"))
_PATIENCE_S: Final = 3.0


def doctor(context: typer.Context) -> None:
    """Tells what this machine can do for a mount: the kernel, the rights, the tiers, the cluster.

    In a pipe: what, yes or no, what was found, what to do. Ends with 1 where something is missing without which there
    is no mount at all.

    isotach doctor
    isotach doctor --json
    """
    session = session_of(context)
    found = _machine(session) + _cluster(session)
    if session.out.as_json:
        session.out.document({"ok": all(each.ok for each in found if each.needed), "capabilities": found})
    else:
        session.out.table(_COLUMNS, [_cells(each) for each in found])
    if not all(each.ok for each in found if each.needed):
        raise typer.Exit(1)


def _cells(each: "Capability") -> tuple[str, ...]:
    word = "yes" if each.ok else "NO" if each.needed else "no"
    return (each.name, word, each.reason, each.remedy)


def _machine(session: Session) -> "list[Capability]":
    from isotach.fuse.kernel.support import capabilities

    worker = session.settings().worker
    return capabilities(worker.all_tiers[0].path if worker.all_tiers else None)


def _cluster(session: Session) -> "list[Capability]":
    from isotach.fuse.kernel.support import Capability

    try:
        with session.connect(retry_total=_PATIENCE_S) as fs:
            address = f"at {fs.address}, as user {fs.user}"
            return [Capability(name="cluster", ok=True, reason=address, needed=True), _local_worker(session, fs)]
    except (IsotachError, OSError) as error:
        what, _, remedy = told(error).partition(": ")
        return [Capability(name="cluster", ok=False, reason=what, remedy=remedy or "start one", needed=True)]


def _local_worker(session: Session, fs: "FileSystem") -> "Capability":
    from isotach.fuse.kernel.support import Capability
    from isotach.net.address import host_key

    live = [worker for worker in fs.workers() if worker.live]
    ours = session.settings().client.host_key or host_key()
    here = [worker.worker_id for worker in live if worker.host_key == ours]
    if here:
        return Capability(name="worker of this host", ok=True, reason=", ".join(here))
    remedy = "run `isotach worker` on this host: without it nothing is read at memory speed"
    return Capability(name="worker of this host", ok=False, reason=f"{len(live)} live, none here", remedy=remedy)
