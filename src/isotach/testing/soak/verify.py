"""The judgement at the end of a soak: namespace, contents and under storage against the models.

Owns: waiting for quiet, the comparisons, and the search for leaked containers. Never: breaks or repairs anything.
Every check gives a list of what is wrong; empty is good.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import isotach
from isotach.testing.soak.content import content_of, fault_of, stamp_of
from isotach.testing.soak.model import SoakModel, is_within

QUIET_S: Final = 180.0
_PAUSE_S: Final = 0.1
_TOLD_MAX: Final = 10


def wait_for_quiet(fs: isotach.FileSystem, worker_count: int) -> list[str]:
    """Waits until all workers live and nothing is queued any more."""

    def is_quiet() -> bool:
        status = fs.status()
        live = sum(worker.live for worker in status.workers)
        return live >= worker_count and not (status.persist_queue or status.open_intents or status.reclaim_queue)

    if _within(QUIET_S, is_quiet):
        return []
    status = fs.status()
    live = sum(worker.live for worker in status.workers)
    told = f"{status.persist_queue} to persist, {status.open_intents} intents, {status.reclaim_queue} to reclaim"
    return [f"no quiet after {QUIET_S:.0f} s: {live} workers live, {told}"]


def compare_namespace(fs: isotach.FileSystem, models: Sequence[SoakModel], roots: Sequence[str]) -> list[str]:
    """The whole tree, entry by entry, and each file read to its end."""
    files = {path: file for model in models for path, file in model.files.items()}
    folders = {path for model in models for path in model.folders}
    found = {info.path: info for root in roots for info in fs.list(root, recursive=True)}
    wrong = [f"{path} is there and should not be" for path in found if path not in files and path not in folders]
    wrong += [f"{path} is missing" for path in (*files, *folders) if path not in found]
    for path, file in files.items():
        if path in found:
            wrong += _read_fault(fs, path, content_of(file.stamp))
            if file.goes_through and not found[path].persisted:
                wrong.append(f"{path} was never persisted")
    return wrong


def _read_fault(fs: isotach.FileSystem, path: str, good: bytes) -> list[str]:
    try:
        data = fs.read(path)
    except (isotach.IsotachError, OSError) as error:
        return [f"{path} cannot be read: {type(error).__name__}: {error}"]
    return [] if data == good else [f"{path}: {fault_of(data) or f'holds {stamp_of(data)}'}"]


def compare_store(
    fs: isotach.FileSystem, models: Sequence[SoakModel], root: str, stored: Callable[[], dict[str, bytes]]
) -> list[str]:
    """The under storage of the mount at `root` (its files by namespace path) against what is persisted.

    A file that was overwritten with MUST_CACHE is not persisted, and the store keeps an older generation of it.
    """
    files = {path: file for model in models for path, file in model.files.items() if is_within(path, root)}
    persisted = {info.path for info in fs.list(root, recursive=True) if not info.is_dir and info.persisted}
    there = stored()
    wrong = [f"the store has the ghost {path}" for path in there.keys() - files.keys()]
    wrong += [f"the store lacks {path}" for path in persisted - there.keys()]
    for path in there.keys() & files.keys():
        wanted, fault, stamp = files[path].stamp, fault_of(there[path]), stamp_of(there[path])
        if fault is not None or stamp is None:
            wrong.append(f"the store's {path}: {fault}")
        elif stamp != wanted and (path in persisted or stamp.writer != wanted.writer):
            wrong.append(f"the store's {path} is {stamp}; {wanted} was written")
    return wrong


def find_leaks(fs: isotach.FileSystem, cluster: isotach.Cluster, roots: Sequence[str], wait_s: float = 60) -> list[str]:
    """Removes everything; then no container may be left in any tier's folder, and no byte may count as used."""
    for root in roots:
        for info in fs.list(root):
            fs.remove(info.path, recursive=True)

    def left() -> list[str]:
        found = []
        for worker in cluster.workers:
            for tier in worker.settings.worker.all_tiers:
                names = _names_in(tier.path / "containers")
                found += [f"{worker.role}: {tier.path / 'containers' / name}" for name in names]
        used = sum(tier.used_bytes for worker in fs.workers() for tier in worker.tiers)
        return found + ([f"{used} bytes count as used"] if used else [])

    if _within(wait_s, lambda: not left()):
        return []
    leaked = left()
    return [f"{len(leaked)} left after everything was removed: {', '.join(leaked[:_TOLD_MAX])}"]


def _names_in(folder: Path) -> list[str]:
    found = []
    for _, _, names in os.walk(folder):
        found += names
    return found


def _within(seconds: float, is_so: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while True:
        try:
            if is_so():
                return True
        except (isotach.IsotachError, OSError):
            pass  # the last fault is not over yet
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE_S)
