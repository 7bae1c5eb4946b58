"""`isotach start`: a standalone cluster on this machine, in the foreground or detached.

Owns: the foreground wait and the hand-over to a detached process. Never: starts a role itself (`run.standalone` does).
"""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from isotach.base.errors import IsotachError
from isotach.cli.roles import DirOption, absolute
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.conf import OverrideValue
    from isotach.run.standalone import Cluster

#: How often the foreground process looks whether a role was given up.
WATCH_INTERVAL_S: Final = 1.0
DETACH_TIMEOUT_S: Final = 180.0
MemOption = Annotated[
    str | None,
    typer.Option(
        "--mem",
        metavar="SIZE",
        help="Size of each worker's MEM tier: 512MiB, 8GiB, 25%. Default: a quarter of RAM for all together, at most "
        "what is free.",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="How many workers, each with folders, ports and a host name of its own. Default: as many as ever ran in "
        "DIR, at first 1.",
        show_default=False,
    ),
]


def start(
    context: typer.Context,
    dir: DirOption = None,
    mem: MemOption = None,
    workers: WorkersOption = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background once it serves.")] = False,
    ready_fd: Annotated[int | None, typer.Option("--ready-fd", hidden=True)] = None,
) -> None:
    """Starts a master and workers on this machine, and writes their address to DIR/address.

    In the foreground it runs until Ctrl-C or SIGTERM; with --detach until `isotach stop`.

    isotach start
    isotach start --dir /data/isotach --mem 8GiB --detach
    isotach start --workers 3
    """
    session = session_of(context)
    overrides = session.overrides(dir=absolute(dir), worker__mem_size=mem)
    overrides.pop("address", None)  # it is about to be made
    if ready_fd is None:  # else the process that started this one has said it
        _warn_of_size(session, overrides, workers or 1)
    if detach:
        _start_detached(session, overrides, workers)
    else:
        _run_foreground(session, overrides, workers, ready_fd)


def _run_foreground(
    session: Session, overrides: dict[str, "OverrideValue"], workers: int | None, ready_fd: int | None
) -> None:
    import isotach
    from isotach.run.lifecycle import Ready, report_failure, report_ready

    stop_read, stop_write = os.pipe()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(stop_write, b"x"))
    try:
        cluster = isotach.start(workers=workers, **_arguments(overrides))
    except BaseException as error:
        report_failure(ready_fd, error)
        raise
    with cluster:
        _announce(session, cluster)
        report_ready(ready_fd, Ready(pid=os.getpid(), address=cluster.address))
        while not select.select([stop_read], [], [], WATCH_INTERVAL_S)[0]:
            if cluster.failure is not None:
                raise IsotachError(f"{cluster.failure}: its log is in {cluster.dir / 'logs'}")
    if session.out.terminal:
        session.out.line("stopped")


def _announce(session: Session, cluster: "Cluster") -> None:
    facts: dict[str, object] = {
        "address": cluster.address,
        "tcp_address": cluster.tcp_address,
        "dir": str(cluster.dir),
        "mem_bytes": sum(worker.settings.worker.mem_size for worker in cluster.workers),
        "pid": os.getpid(),
        "master_pid": cluster.master_pid,
        "worker_pid": cluster.worker_pid,
        "worker_pids": cluster.worker_pids,
        "web_ports": cluster.web_ports,
    }
    _show(session, facts, "Ctrl-C stops it")


def _show(session: Session, facts: dict[str, object], how_to_stop: str) -> None:
    out = session.out
    if out.as_json:
        out.document(facts)
    elif not out.terminal:
        # The rest is in `isotach status`; a script wants the address.
        out.line(str(facts["address"]))
    else:
        from rich.panel import Panel
        from rich.text import Text

        from isotach.conf.units import approximate_size

        ports, size = facts.get("web_ports"), facts["mem_bytes"]
        lines = {
            "address": facts["address"],
            "tcp": facts.get("tcp_address"),
            "folder": facts["dir"],
            "memory": approximate_size(size) if isinstance(size, int) else None,
            "metrics": _ports_text(ports) if isinstance(ports, dict) else None,
        }
        body = Text("\n".join(f"{name:<9}{value}" for name, value in lines.items() if value))
        out.show(Panel(body, title="Isotach serves", subtitle=how_to_stop, expand=False, border_style="green"))
    out.flush()


def _ports_text(ports: dict[str, int]) -> str:
    return ", ".join(f"{role} :{port}" for role, port in ports.items())


def _start_detached(session: Session, overrides: dict[str, "OverrideValue"], workers: int | None) -> None:
    from isotach.conf import load_settings
    from isotach.run.lifecycle import parse_report

    settings = load_settings(overrides)
    log_file = settings.dir / "logs" / "standalone.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    words = [word for name, value in overrides.items() for word in ("--set", f"{name}={value}")]
    words += [] if workers is None else ["--workers", str(workers)]
    command = [sys.executable, "-m", "isotach.cli", "start", *words]
    ready_read, ready_write = os.pipe()
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [*command, "--ready-fd", str(ready_write)],
            cwd="/",  # a folder that may be unmounted must not be kept busy
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(ready_write,),
            start_new_session=True,
        )
    os.close(ready_write)
    ready = parse_report(_read_report(ready_read, process, log_file))
    facts: dict[str, object] = {
        "address": ready.address,
        "dir": str(settings.dir),
        "mem_bytes": settings.worker.mem_size * (1 if settings.is_default("worker.mem_size") else workers or 1),
        "pid": ready.pid,
        "detached": True,
    }
    _show(session, facts, f"isotach stop --dir {settings.dir}")


def _read_report(ready_read: int, process: "subprocess.Popen[bytes]", log_file: Path) -> bytes:
    with os.fdopen(ready_read, "rb") as stream:
        if not select.select([stream], [], [], DETACH_TIMEOUT_S)[0]:
            process.terminate()
            raise IsotachError(f"the cluster did not start within {DETACH_TIMEOUT_S:.0f} s: see {log_file}")
        line = stream.readline()
    if not line:
        raise IsotachError(f"the cluster ended while starting: see {log_file}")
    return line


def _warn_of_size(session: Session, overrides: dict[str, "OverrideValue"], workers: int) -> None:
    """MEM tiers larger than their file system are full, and evict, long before their quota."""
    from isotach.conf import load_settings
    from isotach.conf.load import room_bytes
    from isotach.conf.units import approximate_size

    settings = load_settings(overrides)
    worker, room = settings.worker, room_bytes(settings.worker.mem_dir)
    total = worker.mem_size * (1 if settings.is_default("worker.mem_size") else workers)
    if total > room:
        size, left = approximate_size(total), approximate_size(room)
        text = f"the MEM tier may take {size}, but {worker.mem_dir} has room for {left}: give less --mem"
        session.failures.warn(text)


def _arguments(overrides: dict[str, "OverrideValue"]) -> dict[str, Any]:
    """Keyword arguments of `isotach.start`: its own two by their names, other keys with `__` for the dot."""
    own = {"dir": "dir", "worker.mem_size": "mem"}
    return {own.get(name, name.replace(".", "__")): value for name, value in overrides.items()}
