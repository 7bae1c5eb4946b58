"""Where each worker of a standalone cluster lives: folders, ports and host name of worker 1, 2, 3, ...

Owns: how the settings of worker N follow from the cluster's. Never: starts a process or makes a folder.

Worker 1 has the very folders of a cluster with one worker, so that a cluster that grows keeps its cache. Worker N has
`<dir>/workers/<N>`, a MEM folder of its own, and the folder `worker-<N>` inside each tier's folder: on the same disk,
whatever is mounted where.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from isotach.base.limits import PAGE_BYTES
from isotach.conf.load import load_settings
from isotach.conf.resolve import OverrideValue, to_overrides
from isotach.conf.settings import Settings

_AUTO: Final = "auto"  # what makes `load_settings` compute the default again


def settings_of_worker(
    cluster: Settings, number: int, count: int, overrides: Mapping[str, OverrideValue] | None = None
) -> Settings:
    """The settings of worker `number` (from 1) in a cluster made of `count` workers; `overrides` win.

    A MEM quota that somebody gave is each worker's; the default quota is divided by `count`. Ports that are neither 0
    (any free one) nor -1 (off) go up with the number.
    """
    worker = cluster.worker
    changed: dict[str, OverrideValue] = {"worker.host": _host(worker.host, number, count)}
    if number > 1:
        changed |= {
            "worker.dir": folder_of_worker(cluster, number),
            "worker.mem_dir": _AUTO if cluster.is_default("worker.mem_dir") else worker.mem_dir / f"worker-{number}",
            "worker.tiers": ",".join(str(tier.inside(f"worker-{number}")) for tier in worker.tiers) or "none",
            "worker.port": _port(worker.port, number),
            "worker.web_port": _port(worker.web_port, number),
        }
    if cluster.is_default("worker.mem_size"):
        share = worker.mem_size // count
        changed["worker.mem_size"] = share - share % PAGE_BYTES
    return load_settings({**to_overrides(cluster), **changed, **(overrides or {})})


def folder_of_worker(cluster: Settings, number: int) -> Path:
    """The folder of that worker's own state."""
    return cluster.worker.dir if number == 1 else _folder_of_others(cluster) / str(number)


def workers_seen(cluster: Settings) -> int:
    """The highest number of a worker that ever ran in this folder; 1 in a fresh one. What only it holds (files that
    are not persisted) is away unless it is started again."""
    try:
        names = [entry.name for entry in _folder_of_others(cluster).iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return 1
    return max([1, *(int(name) for name in names if name.isascii() and name.isdigit())])


def _folder_of_others(cluster: Settings) -> Path:
    return cluster.worker.dir.parent / "workers"


def _host(given: str | None, number: int, count: int) -> str:
    if count == 1 and number == 1:
        return given or "none"
    return f"{given or 'worker'}-{number}"


def _port(first: int, number: int) -> int:
    return first if first <= 0 else first + number - 1
