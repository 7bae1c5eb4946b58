"""What goes wrong during a soak, when, and how it is put right: a schedule that the seed decides.

Owns: the choice of faults and their undoing. Never: touches files of the cluster (only processes and the store).
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import isotach
from isotach.obs.log import get_logger
from isotach.testing.seaweed import SeaweedServer

log = get_logger("testing.chaos")
_FROZEN_S: Final = (0.5, 4.0)
_STORE_AWAY_S: Final = (0.5, 3.0)


class Chaos:
    """Breaks a cluster in a thread of its own from `start` to `stop`, one fault after another."""

    def __init__(
        self, cluster: isotach.Cluster, store: SeaweedServer | None, seed: str, pause_s: tuple[float, float]
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._random = random.Random(f"{seed}/chaos")
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._all_undone = threading.Event()
        self._may_end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)
        self.made: Counter[str] = Counter()
        self.started = time.monotonic()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the faults: when this returns, all of them are undone."""
        self._stop.set()
        self._all_undone.wait()

    def close(self) -> None:
        """Ends the thread, and with it a store that it started anew (see `SeaweedServer`)."""
        self.stop()
        self._may_end.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._break_things()
        finally:
            self._all_undone.set()
        self._may_end.wait()

    def _break_things(self) -> None:
        faults = self._faults()
        while not self._stop.wait(self._random.uniform(*self._pause_s)):
            fault = self._random.choice(faults)
            name = fault.__name__.strip("_")
            log.warning("fault", kind=name, after_s=round(time.monotonic() - self.started, 1))
            try:
                fault()
                self.made[name] += 1
            except (OSError, isotach.IsotachError) as error:  # its victim was down already
                log.warning("fault_not_made", kind=name, error=str(error))

    def _faults(self) -> list[Callable[[], None]]:
        always = [
            self._kill_worker, self._kill_worker, self._freeze_worker, self._restart_worker, self._kill_master,
            self._kill_reader, self._freeze_master,
        ]  # fmt: skip
        return always + ([self._kill_store, self._freeze_store] if self._store is not None else [])

    def _kill_worker(self) -> None:
        _signal(self._random.choice(self._cluster.worker_pids), signal.SIGKILL)

    def _freeze_worker(self) -> None:
        self._freeze(self._random.choice(self._cluster.worker_pids), _FROZEN_S)

    def _restart_worker(self) -> None:
        number = self._random.choice([worker.number for worker in self._cluster.workers])
        self._cluster.stop_worker(number)
        self._cluster.add_worker(number)

    def _kill_master(self) -> None:
        _signal(self._cluster.master_pid, signal.SIGKILL)

    def _freeze_master(self) -> None:
        self._freeze(self._cluster.master_pid, _FROZEN_S)

    def _kill_reader(self) -> None:
        with isotach.connect(self._cluster.address) as fs:
            _signal(self._random.choice([*fs.status().reader_pids, -1]), signal.SIGKILL)

    def _kill_store(self) -> None:
        if self._store is not None:
            self._store.kill()
            self._stop.wait(self._random.uniform(*_STORE_AWAY_S))
            self._store.restart()

    def _freeze_store(self) -> None:
        if self._store is not None and self._store.pid is not None:
            self._freeze(self._store.pid, _STORE_AWAY_S)

    def _freeze(self, pid: int, seconds: tuple[float, float]) -> None:
        """A machine that hangs for a while: SIGSTOP, and SIGCONT whatever happens."""
        _signal(pid, signal.SIGSTOP)
        try:
            self._stop.wait(self._random.uniform(*seconds))
        finally:
            with contextlib.suppress(ProcessLookupError):
                _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    if pid <= 0:
        raise ProcessLookupError("it is down already")
    os.kill(pid, number)
