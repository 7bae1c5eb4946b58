"""Standalone mode: a master and a worker of this machine in one folder, started and stopped as one thing.

Owns: the folder's layout for this mode (`address`, `pid`, `logs/`), the order of start and stop, and the `Cluster`
handle. Never: serves anything itself; the roles are processes of their own (`run.master_main`, `run.worker_main`).
"""

import json
import os
import types
from pathlib import Path
from typing import Final, Self

from isotach.base.errors import AlreadyRunningError
from isotach.conf.load import load_settings
from isotach.conf.resolve import OverrideValue, to_overrides
from isotach.conf.settings import Settings
from isotach.run.lifecycle import Ready
from isotach.run.supervisor import SupervisedProcess, module_command

#: Ports that a standalone cluster takes only when the user asked for them: two clusters must not collide.
_PORT_KEYS: Final = ("master.port", "master.web_port", "worker.port", "worker.web_port")


class Cluster:
    """A running standalone cluster. A context manager: leaving it stops the processes.

    `address` is what `isotach.connect` takes; the same text stands in `<dir>/address` while the cluster runs. A role
    that dies is started again, on the same ports.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._master = SupervisedProcess("master", self._master_command, settings.dir / "logs" / "master.log")
        self._worker = SupervisedProcess("worker", self._worker_command, settings.dir / "logs" / "worker.log")
        self._stopped = False

    @property
    def dir(self) -> Path:
        """The folder that holds everything of this cluster but the MEM tier."""
        return self._settings.dir

    @property
    def settings(self) -> Settings:
        """What the cluster was started with."""
        return self._settings

    @property
    def address(self) -> str:
        """The master's Unix socket: the fastest way in from this machine."""
        return _ready_of(self._master).address

    @property
    def tcp_address(self) -> str:
        """The master's TCP address on the configured host (loopback by default)."""
        return f"isotach://{self._settings.master.bind_host}:{_ready_of(self._master).ports['rpc']}"

    @property
    def master_pid(self) -> int:
        """Process id of the master; -1 while it is down."""
        return self._master.pid

    @property
    def reader_pids(self) -> list[int]:
        """Process ids of the master's reader processes, as they were when it started."""
        return list(_ready_of(self._master).child_pids)

    @property
    def worker_pid(self) -> int:
        """Process id of the worker; -1 while it is down."""
        return self._worker.pid

    @property
    def web_ports(self) -> dict[str, int]:
        """Ports of `/metrics` by role."""
        return {"master": _ready_of(self._master).web_port, "worker": _ready_of(self._worker).web_port}

    @property
    def failure(self) -> str | None:
        """Why a role was given up, or None while all is well."""
        return self._master.failed or self._worker.failed

    def start(self) -> None:
        """Starts the master, then the worker. Raises AlreadyRunningError when the folder is in use."""
        directory = self._settings.dir
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self._master.start()
            self._worker.start()
        except BaseException:
            self.stop()
            raise
        _write_atomically(directory / "address", self.address + "\n")
        _write_atomically(directory / "pid", f"{os.getpid()}\n")

    def stop(self) -> None:
        """Stops the worker, then the master, and waits for both. What is cached on disk or in the MEM tier stays."""
        if self._stopped:
            return
        self._stopped = True
        started = self._master.ready is not None
        self._worker.stop()
        self._master.stop()
        if started:
            for name in ("address", "pid"):
                (self._settings.dir / name).unlink(missing_ok=True)

    def _master_command(self, last: Ready | None) -> list[str]:
        fixed = {} if last is None else _same_ports("master", last)
        return self._command("isotach.run.master_main", fixed)

    def _worker_command(self, last: Ready | None) -> list[str]:
        fixed = {} if last is None else _same_ports("worker", last)
        return [*self._command("isotach.run.worker_main", fixed), "--master", self.address]

    def _command(self, module: str, fixed: dict[str, str]) -> list[str]:
        return module_command(module, "--overrides", json.dumps({**to_overrides(self._settings), **fixed}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else self.address
        return f"Cluster(dir={str(self.dir)!r}, {state})"


def start(
    dir: str | os.PathLike[str] | None = None,
    mem: str | int | None = None,
    **overrides: OverrideValue,
) -> Cluster:
    """Starts a standalone cluster and waits until it serves.

    `dir` is its folder (default: the `dir` key, `~/.isotach`), `mem` the size of the MEM tier ("512MiB", bytes, or
    "25%" of RAM), and any configuration key can be given by keyword with `__` for the dot: `worker__tiers="SSD:..."`.

    Raises AlreadyRunningError when a cluster runs in that folder, ConfigError for a bad value.
    """
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    given |= {"dir": None if dir is None else Path(dir).expanduser().absolute(), "worker.mem_size": mem}
    settings = load_settings(given)
    free: dict[str, OverrideValue] = {key: 0 for key in _PORT_KEYS if settings.is_default(key)}
    cluster = Cluster(load_settings(given | free))
    try:
        cluster.start()
    except AlreadyRunningError as error:
        raise AlreadyRunningError(
            f"a cluster already runs in {settings.dir}: connect to it, stop it (isotach stop --dir {settings.dir}), "
            f"or give another dir ({error})"
        ) from None
    return cluster


def _ready_of(process: SupervisedProcess) -> Ready:
    if process.ready is None:
        raise RuntimeError(f"the {process.name} has not been started")
    return process.ready


def _same_ports(section: str, last: Ready) -> dict[str, str]:
    ports = {f"{section}.port": str(last.ports["rpc"])} if "rpc" in last.ports else {}
    return ports | ({f"{section}.web_port": str(last.web_port)} if last.web_port > 0 else {})


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
