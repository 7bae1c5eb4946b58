"""Standalone mode: a master and workers of this machine in one folder, started and stopped as one thing.

Owns: the folder's layout for this mode (`address`, `pid`, `logs/`), the order of start and stop, and the `Cluster`
handle. Never: serves anything itself; the roles are processes of their own (`run.master_main`, `run.worker_main`).
"""

import os
import threading
import types
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from isotach.base.errors import AlreadyRunningError, InvalidArgumentError
from isotach.base.limits import STANDALONE_WORKERS_MAX
from isotach.conf.load import load_settings
from isotach.conf.resolve import OverrideValue, to_overrides
from isotach.conf.settings import Settings
from isotach.obs.log import get_logger
from isotach.run.lifecycle import Ready
from isotach.run.standalone_worker import StandaloneWorker, command_of, ready_of, same_ports
from isotach.run.supervisor import SupervisedProcess
from isotach.run.worker_places import settings_of_worker, workers_seen

#: Ports that a standalone cluster takes only when the user asked for them: two clusters must not collide.
_PORT_KEYS: Final = ("master.port", "master.web_port", "worker.port", "worker.web_port")
log = get_logger("run.standalone")


class Cluster:
    """A running standalone cluster. A context manager: leaving it stops the processes.

    `address` is what `isotach.connect` takes; the same text stands in `<dir>/address` while the cluster runs. A role
    that dies is started again, on the same ports. Safe for several threads.
    """

    def __init__(self, settings: Settings, worker_count: int = 1) -> None:
        self._settings = settings
        self._count = worker_count
        self._master = SupervisedProcess("master", self._master_command, settings.dir / "logs" / "master.log")
        self._lock = threading.Lock()
        self._workers: dict[int, StandaloneWorker] = {}
        for number in range(1, worker_count + 1):
            self._make_worker(number, {}, ())
        self._stopped = False

    @property
    def dir(self) -> Path:
        """The folder that holds everything of this cluster but the MEM tiers."""
        return self._settings.dir

    @property
    def settings(self) -> Settings:
        """What the cluster was started with; those of a worker are in `workers`."""
        return self._settings

    @property
    def address(self) -> str:
        """The master's Unix socket: the fastest way in from this machine."""
        return ready_of(self._master).address

    @property
    def tcp_address(self) -> str:
        """The master over TCP: `isotach://host:port`."""
        return f"isotach://{self._settings.master.bind_host}:{ready_of(self._master).ports['rpc']}"

    @property
    def master_pid(self) -> int:
        """Process id of the master; -1 while it is down."""
        return self._master.pid

    @property
    def reader_pids(self) -> list[int]:
        """Process ids of the master's reader processes, as they were when it started."""
        return list(ready_of(self._master).child_pids)

    @property
    def workers(self) -> list[StandaloneWorker]:
        """The workers of this cluster that were not stopped, by number."""
        with self._lock:
            return [self._workers[number] for number in sorted(self._workers)]

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of `workers`, in their order; -1 for one that is down."""
        return [worker.pid for worker in self.workers]

    @property
    def worker_pid(self) -> int:
        """Process id of the first worker; -1 while it is down, or when there is none."""
        return next(iter(self.worker_pids), -1)

    @property
    def web_ports(self) -> dict[str, int]:
        """Ports of `/metrics` by role: `master`, `worker`, and with several workers `worker-2`, `worker-3`, ..."""
        ports = {"master": ready_of(self._master).web_port}
        return ports | {worker.role: worker.web_port for worker in self.workers}

    @property
    def failure(self) -> str | None:
        """Why a role was given up, or None while all is well."""
        return self._master.failed or next((worker.failed for worker in self.workers if worker.failed), None)

    def start(self) -> None:
        """Starts the master, then the workers. Raises AlreadyRunningError when the folder is in use."""
        directory = self._settings.dir
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self._master.start()
            _all_at_once([worker.start for worker in self.workers])
        except BaseException:
            self.stop()
            raise
        _write_atomically(directory / "address", self.address + "\n")
        _write_atomically(directory / "pid", f"{os.getpid()}\n")

    def add_worker(
        self, number: int | None = None, *, launcher: Sequence[str] = (), **overrides: OverrideValue
    ) -> StandaloneWorker:
        """Starts one more worker, or again the one of that `number` that was stopped, with what it had cached.

        `overrides` are keys for this worker alone, as of `start`; `launcher` is put before its command (to run it
        elsewhere: `("ip", "netns", "exec", "name")`). Returns once it serves.

        Raises InvalidArgumentError when that worker runs, or there are STANDALONE_WORKERS_MAX.
        """
        given = {name.replace("__", "."): value for name, value in overrides.items()}
        with self._lock:
            worker = self._make_worker(number or self._free_number(), given, launcher)
        try:
            worker.start()
        except BaseException:
            with self._lock:
                del self._workers[worker.number]
            raise
        return worker

    def stop_worker(self, number: int) -> None:
        """Ends that worker (SIGTERM) and leaves its cache as it is, for `add_worker(number)`. What is nowhere else
        cannot be read meanwhile; `isotach worker decommission` moves it off first.

        Raises InvalidArgumentError when no such worker runs.
        """
        with self._lock:
            worker = self._workers.pop(number, None)
            running = ", ".join(map(str, sorted(self._workers)))
        if worker is None:
            raise InvalidArgumentError(f"no worker {number} runs in {self.dir}: there are {running or 'none'}")
        worker.stop()

    def stop(self) -> None:
        """Stops the workers, then the master, and waits for all. What is cached on disk or in a MEM tier stays."""
        if self._stopped:
            return
        self._stopped = True
        started = self._master.ready is not None
        _all_at_once([worker.stop for worker in self.workers])
        self._master.stop()
        if started:
            for name in ("address", "pid"):
                (self._settings.dir / name).unlink(missing_ok=True)

    def _free_number(self) -> int:
        return next(number for number in range(1, len(self._workers) + 2) if number not in self._workers)

    def _make_worker(
        self, number: int, overrides: dict[str, OverrideValue], launcher: Sequence[str]
    ) -> StandaloneWorker:
        if number in self._workers:
            raise InvalidArgumentError(f"worker {number} of {self.dir} runs already: give another number")
        if not 1 <= number <= STANDALONE_WORKERS_MAX:
            raise InvalidArgumentError(f"there is no worker {number}: give 1 to {STANDALONE_WORKERS_MAX}")
        settings = settings_of_worker(self._settings, number, self._count, overrides)
        worker = StandaloneWorker(number, settings, lambda: settings.address or self.address, launcher)
        self._workers[number] = worker
        return worker

    def _master_command(self, last: Ready | None) -> list[str]:
        fixed = {} if last is None else same_ports("master", last)
        return command_of("isotach.run.master_main", {**to_overrides(self._settings), **fixed})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else self.address
        return f"Cluster(dir={str(self.dir)!r}, {state}, workers={len(self._workers)})"


def start(
    dir: str | os.PathLike[str] | None = None,
    mem: str | int | None = None,
    workers: int | None = None,
    **overrides: OverrideValue,
) -> Cluster:
    """Starts a standalone cluster and waits until it serves.

    `dir` is its folder (default: the `dir` key, `~/.isotach`), `mem` the size of the MEM tier of each worker
    ("512MiB", bytes, or "25%" of RAM; by default a quarter of RAM for all together), and any configuration key can be
    given by keyword with `__` for the dot: `worker__tiers="SSD:..."`.

    `workers` is how many (default: as many as ever ran in that folder, at first 1), each with its own folders, ports,
    log and host name. The first has `<dir>/worker`, worker N `<dir>/workers/N` and sub-folders `worker-N` of the tiers.

    Raises AlreadyRunningError when a cluster runs in that folder, ConfigError for a bad value, InvalidArgumentError
    for a number of workers that cannot be.
    """
    if workers is not None and not 1 <= workers <= STANDALONE_WORKERS_MAX:
        raise InvalidArgumentError(f"a cluster of {workers} workers cannot be: give 1 to {STANDALONE_WORKERS_MAX}")
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    given |= {"dir": None if dir is None else Path(dir).expanduser().absolute(), "worker.mem_size": mem}
    settings = load_settings(given)
    free: dict[str, OverrideValue] = {key: 0 for key in _PORT_KEYS if settings.is_default(key)}
    seen = min(workers_seen(settings), STANDALONE_WORKERS_MAX)
    if workers is not None and workers < seen:
        log.warning("workers_left_out", dir=str(settings.dir), started=workers, seen=seen)
    cluster = Cluster(load_settings(given | free), seen if workers is None else workers)
    try:
        cluster.start()
    except AlreadyRunningError as error:
        raise AlreadyRunningError(
            f"a cluster already runs in {settings.dir}: connect to it, stop it (isotach stop --dir {settings.dir}), "
            f"or give another dir ({error})"
        ) from None
    return cluster


def _all_at_once(actions: Iterable[Callable[[], object]]) -> None:
    """Runs them in threads of their own, waits for all, and raises the first error."""
    with ThreadPoolExecutor(STANDALONE_WORKERS_MAX, thread_name_prefix="standalone") as threads:
        for outcome in [threads.submit(action) for action in actions]:
            outcome.result()


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
