"""One worker of a standalone cluster: its number, its settings, its supervised process.

Owns: the command line of a worker and what a user sees of it. Never: chooses where a worker lives
(`worker_places.py`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from isotach.conf.resolve import to_overrides
from isotach.conf.settings import Settings
from isotach.run.lifecycle import Ready
from isotach.run.supervisor import SupervisedProcess, module_command


class StandaloneWorker:
    """A worker that is kept alive until it is stopped. Made by `Cluster`."""

    def __init__(
        self, number: int, settings: Settings, master_address: Callable[[], str], launcher: Sequence[str] = ()
    ) -> None:
        self.number = number
        self.settings = settings
        self._master_address = master_address
        self._launcher = list(launcher)
        self._process = SupervisedProcess(self.role, self._command, settings.dir / "logs" / f"{self.role}.log")

    @property
    def role(self) -> str:
        """What it is called in logs and tables of ports: `worker`, `worker-2`, `worker-3`, ..."""
        return "worker" if self.number == 1 else f"worker-{self.number}"

    @property
    def dir(self) -> Path:
        """The folder of its own state."""
        return self.settings.worker.dir

    @property
    def worker_id(self) -> str:
        """Its lasting name in the cluster, as in `FileSystem.workers()`. FileNotFoundError before its first start."""
        return (self.dir / "id").read_text(encoding="ascii").strip()

    @property
    def pid(self) -> int:
        """Process id of the present incarnation; -1 while it is down."""
        return self._process.pid

    @property
    def address(self) -> str:
        """Where it serves other hosts: `isotach://host:port`."""
        return ready_of(self._process).address

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        return ready_of(self._process).ports["rpc"]

    @property
    def web_port(self) -> int:
        """The port of its `/metrics`; -1 when that is off."""
        return ready_of(self._process).web_port

    @property
    def failed(self) -> str | None:
        """Why it was given up, or None."""
        return self._process.failed

    def start(self) -> None:
        """Starts it and waits until it serves. Raises what kept it from starting."""
        self._process.start()

    def stop(self) -> None:
        """Ends it and waits. Safe to call twice."""
        self._process.stop()

    def _command(self, last: Ready | None) -> list[str]:
        fixed = {} if last is None else same_ports("worker", last)
        command = command_of("isotach.run.worker_main", {**to_overrides(self.settings), **fixed})
        return [*self._launcher, *command, "--master", self._master_address()]

    def __repr__(self) -> str:
        return f"StandaloneWorker({self.number}, pid={self.pid}, dir={str(self.dir)!r})"


def command_of(module: str, overrides: Mapping[str, str]) -> list[str]:
    """The command of a role's main with these keys."""
    return module_command(module, "--overrides", json.dumps(overrides))


def ready_of(process: SupervisedProcess) -> Ready:
    """What the process said when it began to serve. Raises RuntimeError when it was never started."""
    if process.ready is None:
        raise RuntimeError(f"the {process.name} has not been started")
    return process.ready


def same_ports(section: str, last: Ready) -> dict[str, str]:
    """The ports of the last incarnation, for the next one."""
    ports = {f"{section}.port": str(last.ports["rpc"])} if "rpc" in last.ports else {}
    return ports | ({f"{section}.web_port": str(last.web_port)} if last.web_port > 0 else {})
