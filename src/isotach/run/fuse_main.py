"""The mains of a mount: `python -m isotach.run.fuse_main`, the one that keeps it, and with --serve the one that serves.

Owns: their command lines, signals, ready reports. Never: knows what a mount does (`fuse.daemon`, `fuse_supervisor`).
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from isotach.fuse.plan import MountPlan
from isotach.obs.log import configure_logging, get_logger
from isotach.run.fuse_supervisor import Handed, MountSupervisor
from isotach.run.lifecycle import Ready, report_failure, report_ready, watch_parent

log = get_logger("run.fuse")


def keep(plan: MountPlan, ready_fd: int | None = None, *, log_stream: TextIO | None = None) -> int:
    """Mounts and keeps the mount until it is unmounted or SIGTERM or SIGINT comes; the exit code. Why it cannot mount
    is told on `ready_fd`, and raised when there is none."""
    supervisor: MountSupervisor | None = None
    try:
        settings = plan.settings()
        configure_logging(settings.log.level, settings.log.format, settings.log.file, process="fuse")
        supervisor = MountSupervisor(plan, settings, log_stream=log_stream)
        _on_signals(supervisor.stop, supervisor.wake_fd)
        return supervisor.run(ready_fd)
    except Exception as error:
        log.error("cannot_mount", mountpoint=plan.mountpoint, error=str(error), kind=type(error).__name__)
        if ready_fd is None:
            raise
        if supervisor is None or not supervisor.told:
            report_failure(ready_fd, error)
        return 1


def serve(
    plan: MountPlan, device: int, negotiated: str, ready_fd: int | None = None, life_fd: int | None = None
) -> int:
    """Serves the mount of an open device until it ends; the exit code."""
    from isotach.fuse.daemon import Daemon

    settings = plan.settings()
    configure_logging(settings.log.level, settings.log.format, settings.log.file, process="fuse-server")
    told = False
    try:
        daemon = Daemon(plan, settings, device, negotiated)
        _on_signals(daemon.stop, daemon.wake_fd)
        watch_parent(life_fd)  # only now: it ends this process by SIGTERM

        def tell() -> None:
            nonlocal told
            told = True
            handed = Handed(daemon.negotiated, daemon.resend, daemon.passthrough_off)
            note = msgspec.json.encode(handed).decode()
            report_ready(ready_fd, Ready(pid=os.getpid(), address=daemon.address, note=note))

        daemon.run(tell)
    except Exception as error:
        log.error("mount_cannot_be_served", error=str(error), kind=type(error).__name__)
        if ready_fd is None:
            raise
        if not told:
            report_failure(ready_fd, error)
        return 1
    return 0


def _on_signals(stop: Callable[[], None], wake_fd: int) -> None:
    signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal it was mounted from may go


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="isotach-fuse", description="The processes of a mount of Isotach.")
    parser.add_argument("--plan", required=True, help="what is mounted where and how, as one JSON object")
    parser.add_argument("--serve", type=int, metavar="FD", help="serve a device that another process has mounted")
    parser.add_argument("--negotiated", default="", help="what a former process agreed on with the kernel")
    parser.add_argument("--ready-fd", type=int, help="descriptor on which to say, once, that it serves")
    parser.add_argument("--life-fd", type=int, help="descriptor whose end of file tells that the parent is gone")
    parser.add_argument("--log-file", type=Path, help="file to which the processes of the mount write")
    given = parser.parse_args(arguments)
    plan = msgspec.json.decode(given.plan, type=MountPlan)
    if given.serve is not None:
        return serve(plan, given.serve, given.negotiated, given.ready_fd, given.life_fd)
    if given.log_file is None:
        return keep(plan, given.ready_fd)
    given.log_file.parent.mkdir(parents=True, exist_ok=True)
    with given.log_file.open("a") as stream:
        for standard in (1, 2):
            os.dup2(stream.fileno(), standard)
        return keep(plan, given.ready_fd, log_stream=stream)


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
