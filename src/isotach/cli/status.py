"""`isotach status`: master, readers, workers with their tiers, mounts and queues, at a glance.

Owns: how the state of a cluster is laid out. Never: adds up what the master did not say.
"""

import datetime
import time
from typing import TYPE_CHECKING, Final, Literal

import typer

from isotach.cli.output import Column, Output, table_of
from isotach.cli.session import session_of
from isotach.conf.units import approximate_size, format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from isotach.base.types import FolderInfo, MountInfo, TierInfo, WorkerInfo
    from isotach.client import ClusterStatus

BAR_CELLS: Final = 20
MOUNT_COLUMNS: Final = (Column("path", style="cyan"), Column("under storage"), Column("access"), Column("sync"))
_WORKER_COLUMNS: Final = (
    Column("worker", style="cyan"),
    Column("host"),
    Column("state"),
    Column("heartbeat", right=True),
    Column("address"),
    Column("tier"),
    Column("used", right=True),
    Column("of", right=True),
    Column(""),
)


def status(context: typer.Context) -> None:
    """Shows the cluster: master and readers, workers with their tiers, mounts, queues.

    In a pipe every line starts with what it is about: master, worker, tier, folder (one out of service), or mount.

    isotach status
    isotach status --json
    """
    session = session_of(context)
    with session.connect() as fs:
        state, mounts, user = fs.status(), fs.mounts(), fs.user
    if session.out.as_json:
        facts = {name: getattr(state, name) for name in state.__struct_fields__}
        session.out.document({**facts, "mount_table": mounts})
    elif session.out.terminal:
        _panels(session.out, state, mounts, user)
    else:
        _lines(session.out, state, mounts)


def mount_cells(mount: "MountInfo") -> tuple[str, ...]:
    """One mount for MOUNT_COLUMNS."""
    return (
        mount.path,
        mount.ufs_uri,
        "read-only" if mount.read_only else "read-write",
        format_duration(mount.metadata_sync_interval_s),
    )


def failed_folders(worker: "WorkerInfo") -> list[tuple[str, "FolderInfo"]]:
    """The folders of its tiers that are out of service, each with the alias of its tier."""
    return [(tier.alias, folder) for tier in worker.tiers for folder in tier.folders if folder.failure]


def _master_facts(state: "ClusterStatus") -> dict[str, str]:
    readers = ",".join(map(str, state.reader_pids))
    facts = {
        "address": state.address,
        "cluster": state.cluster_id,
        "version": state.version,
        "pid": str(state.pid),
        "readers": readers or "none",
        "up": format_duration(max(0, int(time.time() - state.started_ns / 1e9))),
        "metrics": f":{state.web_port}" if state.web_port > 0 else "off",
        "inodes": str(state.inodes),
        "mounts": str(state.mounts),
        "persist_queue": str(state.persist_queue),
        "open_intents": str(state.open_intents),
        "reclaim_queue": str(state.reclaim_queue),
    }
    return facts | ({"safe_directory": state.safe_directory} if state.safe_directory else {})


def _up_text(state: "ClusterStatus") -> str:
    return str(datetime.timedelta(seconds=max(0, int(time.time() - state.started_ns / 1e9))))


def _lines(out: Output, state: "ClusterStatus", mounts: list["MountInfo"]) -> None:
    for name, value in _master_facts(state).items():
        out.line(f"master\t{name}\t{value}")
    for worker in state.workers:
        out.line(f"worker\t{worker.worker_id}\t{_liveness(worker)}\t{worker.host}\t{worker.address}")
        for tier in worker.tiers:
            out.line(f"tier\t{worker.worker_id}\t{tier.alias}\t{tier.used_bytes}\t{tier.capacity_bytes}")
        for alias, folder in failed_folders(worker):
            out.line(f"folder\t{worker.worker_id}\t{alias}\t{folder.path}\t{folder.failure}")
    for mount in mounts:
        out.line("\t".join(("mount", *mount_cells(mount))))


def _panels(out: Output, state: "ClusterStatus", mounts: list["MountInfo"], user: str) -> None:
    from rich.console import Group
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    for name, value in {**_master_facts(state), "up": _up_text(state), "you": user}.items():
        facts.add_row(Text(name.replace("_", " "), style="dim"), Text(value, overflow="fold"))
    live = sum(worker.live for worker in state.workers)
    parts: list[RenderableType] = [
        Panel(facts, title="master", title_align="left", border_style="green", expand=False),
        Padding(_worker_table(state.workers, f"workers: {live} live, {len(state.workers) - live} lost"), (1, 0, 0, 0)),
        Padding(table_of(MOUNT_COLUMNS, map(mount_cells, mounts), f"mounts: {len(mounts)}"), (1, 0, 0, 0)),
    ]
    parts += [
        Text(f"{worker.worker_id}: {alias} folder {folder.path} is out of service: {folder.failure}", style="red")
        for worker in state.workers
        for alias, folder in failed_folders(worker)
    ]
    out.show(Group(*parts))


def _worker_table(workers: list["WorkerInfo"], title: str) -> "RenderableType":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, title_style="bold")
    columns = [column for column in _WORKER_COLUMNS if column.title != "address"]  # 80 columns are full without it
    for column in columns:
        side: Literal["right", "left"] = "right" if column.right else "left"
        is_short = column.title in ("state", "heartbeat", "tier", "used", "of")  # readable on a narrow terminal, too
        width = max(len(column.title), 6) if column.title in ("worker", "host") else None
        style = column.style or None
        table.add_column(column.title, justify=side, style=style, no_wrap=is_short, overflow="fold", min_width=width)
    for worker in workers:
        word = _liveness(worker)
        state = Text(word, style={"live": "green", "lost": "red"}.get(word, "yellow"))
        heartbeat = f"{worker.seconds_since_heartbeat:.1f} s"
        head: tuple[str | Text, ...] = (worker.worker_id, worker.host, state, heartbeat)
        if not worker.tiers:
            table.add_row(*head, "none")
        for tier in worker.tiers:
            table.add_row(*head, *_tier_cells(tier))
            head = ("",) * len(head)
    return table


def _tier_cells(tier: "TierInfo") -> tuple["str | RenderableType", ...]:
    from rich.progress_bar import ProgressBar

    bar = ProgressBar(total=max(tier.capacity_bytes, 1), completed=tier.used_bytes, width=BAR_CELLS)
    return (tier.alias, approximate_size(tier.used_bytes), approximate_size(tier.capacity_bytes), bar)


def _liveness(worker: "WorkerInfo") -> str:
    """live or lost; for a worker that was sent away, how far that is."""
    return worker.state.lower()
