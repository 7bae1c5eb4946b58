"""A whole soak: a cluster, a store, clients in several processes, faults, and the judgement.

Owns: the order of events and the report. Never: decides what is right (`verify.py`) or what breaks (`chaos.py`).
"""

import multiprocessing
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

import isotach
from isotach.testing.seaweed import SeaweedServer
from isotach.testing.soak.chaos import Chaos
from isotach.testing.soak.client import SoakClient, home_of
from isotach.testing.soak.model import SoakModel
from isotach.testing.soak.store import local_files, s3_files
from isotach.testing.soak.verify import compare_namespace, compare_store, find_leaks, wait_for_quiet

BUCKET: Final = "soak"
LOCAL_ROOT: Final = "/local"
S3_ROOT: Final = "/s3"
SHARED: Final = "shared"


class SoakPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. The same plan makes the same clients and the same faults at the same moments."""

    seed: str
    seconds: float
    clients: int = 64
    processes: int = 4  # 0: threads of this one
    workers: int = 3
    memory: str = "24MiB"  # of each worker: small, so that eviction and demotion never rest
    disk: str = "64MiB"
    with_s3: bool = True
    pause_s: tuple[float, float] = (3.0, 8.0)  # between two faults
    grace_s: float = 20.0  # how long a restarted master keeps what might be a write under way
    keep: bool = False


class SoakReport(msgspec.Struct, kw_only=True):
    """What happened."""

    plan: SoakPlan
    operations: int
    seconds: float
    counts: Counter[str]
    failures: Counter[str]
    faults: Counter[str]
    problems: list[str]
    folder: str

    def text(self) -> str:
        """The report for people."""
        rate = self.operations / max(self.seconds, 0.001)
        lines = [
            f"seed {self.plan.seed}: {self.plan.clients} clients, {self.plan.workers} workers, {self.seconds:.0f} s",
            f"operations {self.operations} ({rate:.0f}/s): {_told(self.counts)}",
            f"faults {self.faults.total()}: {_told(self.faults)}",
            f"calls that failed meanwhile {self.failures.total()}:",
            *(f"  {count:6} {what}" for what, count in self.failures.most_common(15)),
        ]
        verdict = ["nothing wrong"] if not self.problems else [f"{len(self.problems)} WRONG:", *self.problems[:40]]
        return "\n".join([*lines, *verdict])


class ClientResult(msgspec.Struct):
    """What a client process gives back."""

    files: list[SoakModel]
    counts: Counter[str]
    failures: Counter[str]
    problems: list[str]


def soak(plan: SoakPlan) -> SoakReport:
    """Runs the plan. The folder of a run that found something wrong is kept."""
    folder = Path(tempfile.mkdtemp(prefix="isotach-soak-"))
    memory = Path(tempfile.mkdtemp(prefix="isotach-soak-", dir="/dev/shm"))
    store = SeaweedServer.start(folder / "seaweed") if plan.with_s3 else None
    try:
        with _cluster(plan, folder, memory) as cluster:
            report = _run(plan, cluster, store, folder)
    finally:
        if store is not None:
            store.kill()
        shutil.rmtree(memory, ignore_errors=True)
    if not report.problems and not plan.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _cluster(plan: SoakPlan, folder: Path, memory: Path) -> isotach.Cluster:
    return isotach.start(
        dir=folder / "cluster",
        mem=plan.memory,
        workers=plan.workers,
        worker__mem_dir=memory / "mem",
        worker__tiers=f"SSD:{folder / 'ssd'}:{plan.disk}",
        worker__heartbeat_interval="0.3s",
        master__worker_timeout="2s",
        master__persist_retry_max="2s",
        master__pending_write_timeout=f"{plan.grace_s}s",
        master__web_port=-1,
        worker__web_port=-1,
    )


def _run(plan: SoakPlan, cluster: isotach.Cluster, store: SeaweedServer | None, folder: Path) -> SoakReport:
    roots = [LOCAL_ROOT] + ([S3_ROOT] if store is not None else [])
    with isotach.connect(cluster.address) as fs:
        (folder / "local").mkdir()
        fs.mount(LOCAL_ROOT, str(folder / "local"))
        if store is not None:
            store.create_bucket(BUCKET)
            fs.mount(S3_ROOT, f"s3://{BUCKET}", options=store.options())
        for root in roots:
            fs.mkdir(f"{root}/{SHARED}")
        chaos = Chaos(cluster, store, plan.seed, plan.pause_s)
        started = time.monotonic()
        chaos.start()
        try:
            results = _clients(plan, cluster.address, roots, started + plan.seconds)
            seconds = time.monotonic() - started
            chaos.stop()
            models = [model for result in results for model in result.files]
            problems = [problem for result in results for problem in result.problems]
            problems += [cluster.failure] if cluster.failure else []
            problems += _judge(fs, cluster, store, folder, models, roots, clean=not problems)
        finally:
            chaos.close()
    counts = sum((result.counts for result in results), Counter())
    return SoakReport(
        plan=plan,
        operations=counts.total(),
        seconds=seconds,
        counts=counts,
        failures=sum((result.failures for result in results), Counter()),
        faults=chaos.made,
        problems=problems,
        folder=str(folder),
    )


def _judge(
    fs: isotach.FileSystem,
    cluster: isotach.Cluster,
    store: SeaweedServer | None,
    folder: Path,
    models: Sequence[SoakModel],
    roots: Sequence[str],
    *,
    clean: bool,
) -> list[str]:
    shared = SoakModel()
    shared.folders = {f"{root}/{SHARED}" for root in roots}
    problems = wait_for_quiet(fs, len(cluster.workers))
    if not clean:
        return problems  # a client gave up in the middle: its model says nothing any more
    problems += compare_namespace(fs, [*models, shared], roots)
    problems += compare_store(fs, models, LOCAL_ROOT, lambda: local_files(folder / "local", LOCAL_ROOT))
    if store is not None:
        problems += compare_store(fs, models, S3_ROOT, lambda: s3_files(store, BUCKET, S3_ROOT))
    return problems or find_leaks(fs, cluster, roots)


def _clients(plan: SoakPlan, address: str, roots: Sequence[str], end: float) -> list[ClientResult]:
    if plan.processes == 0:
        return [run_clients(plan, address, list(roots), range(plan.clients), end)]
    groups = [range(first, plan.clients, plan.processes) for first in range(plan.processes)]
    with ProcessPoolExecutor(plan.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(run_clients, plan, address, list(roots), group, end) for group in groups]
        return [job.result() for job in jobs]


def run_clients(plan: SoakPlan, address: str, roots: list[str], numbers: range, end: float) -> ClientResult:
    """The clients of these numbers, each in a thread of its own, over one connection object."""
    with isotach.connect(address) as fs:
        clients = [
            SoakClient(fs, number, plan.seed, home_of(number, roots), f"{roots[number % len(roots)]}/{SHARED}")
            for number in numbers
        ]
        threads = [threading.Thread(target=client.run, args=(end,), name=f"soak-{client}") for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return ClientResult(
        files=[client.model for client in clients],
        counts=sum((client.counts for client in clients), Counter()),
        failures=sum((client.failures for client in clients), Counter()),
        problems=[problem for client in clients for problem in client.problems],
    )


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
