"""`isotach fuse mount`: the namespace as a folder of this machine.

Owns: its flags, and waiting until a mount in the background answers. Never: mounts itself (`run.fuse_main` does).
"""

import contextlib
import errno
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isotach.base.errors import InvalidArgumentError, IsotachError, UnavailableError
from isotach.base.limits import FUSE_START_S, FUSE_STOP_WAIT_S
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.fuse.plan import MountPlan

_STARTS_S = 180.0


def mount(
    context: typer.Context,
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="[SOURCE] MOUNTPOINT",
            help="SOURCE: the directory of the namespace that the folder shows, by default /. MOUNTPOINT: the folder.",
        ),
    ],
    options: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            metavar="OPT,...",
            help="Mount options as of fuse (ro, allow_other, uid=, umask=, ...), and the keys of the section fuse of "
            "the configuration (write_type=, training, ...). Repeatable.",
            show_default=False,
        ),
    ] = None,
    foreground: Annotated[bool, typer.Option("-f", "--foreground", help="Stay here until Ctrl-C or unmount.")] = False,
    start: Annotated[
        bool, typer.Option("--start", help="Start a standalone cluster first, where none answers.")
    ] = False,
) -> None:
    """Mounts the namespace, or a directory of it, as a folder that every program can use.

    Comes back once the folder answers; the mount goes on in the background until `isotach fuse unmount`. docs/posix.md
    tells the options and what to expect.

    isotach fuse mount /mnt/isotach
    isotach fuse mount /datasets /mnt/datasets -o training
    isotach fuse mount /mnt/isotach -o allow_other,write_type=ASYNC_THROUGH
    """
    from isotach.fuse.kernel.options import parse_options
    from isotach.fuse.plan import plan_of

    if len(places) > 2:
        raise InvalidArgumentError("too many places: give the mountpoint, or a directory of the namespace and it")
    session = session_of(context)
    source, mountpoint = places if len(places) == 2 else ("/", places[0])
    plan = plan_of(Path(mountpoint), source, parse_options(options or ()), session.overrides())
    mount_plan(session, plan, foreground=foreground, start=start)


def mount_plan(session: Session, plan: "MountPlan", *, foreground: bool, start: bool) -> None:
    """Mounts as planned, here or in the background. Raises what keeps it from being made."""
    from isotach.fuse.kernel.mounting import check_mountpoint

    plan.settings()  # bad values are told before anything is done
    check_mountpoint(Path(plan.mountpoint))
    if start:
        _start_where_none_answers(plan)
    if foreground:
        from isotach.run.fuse_main import keep

        raise typer.Exit(keep(plan))
    pid = mount_in_background(plan)
    facts = {"mountpoint": plan.mountpoint, "source": plan.source, "pid": pid}
    text = f"{plan.source} is mounted at {plan.mountpoint}" if session.out.terminal else ""
    session.out.done("fuse mount", facts, text)


def mount_in_background(plan: "MountPlan") -> int:
    """Mounts, and returns the id of the process that keeps the mount once the folder answers."""
    import msgspec

    from isotach.fuse.kernel.stale import errno_of_mount
    from isotach.run.fuse_supervisor import log_file

    path = Path(plan.mountpoint)
    log = log_file(plan.settings(), path)
    report_read, report_write = os.pipe()
    words = ["--plan", msgspec.json.encode(plan).decode(), "--log-file", str(log), "--ready-fd", str(report_write)]
    process = subprocess.Popen(
        [sys.executable, "-m", "isotach.run.fuse_main", *words],
        cwd="/",  # a folder that may be unmounted must not be kept busy
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(report_write,),
        start_new_session=True,
    )
    os.close(report_write)
    try:
        pid = _await_report(report_read, log)
        number = errno_of_mount(path, FUSE_START_S)
        if number:
            why = "does not answer" if number == errno.ETIMEDOUT else f"answers with an error ({os.strerror(number)})"
            raise IsotachError(f"{path} is mounted and {why}: see {log}")
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(FUSE_STOP_WAIT_S + 1)
        raise
    return pid


def _await_report(report_read: int, log: Path) -> int:
    """The id of the process that keeps the mount. Raises its own error when it cannot mount."""
    from isotach.run.lifecycle import parse_report

    with os.fdopen(report_read, "rb") as stream:
        if not select.select([stream], [], [], FUSE_START_S + 10)[0]:
            raise IsotachError(f"the mount was not made within {FUSE_START_S + 10:.0f} s: see {log}")
        line = stream.readline()
    if not line:
        raise IsotachError(f"the mount ended while starting: see {log}")
    return parse_report(line).pid


def _start_where_none_answers(plan: "MountPlan") -> None:
    import isotach

    overrides: dict[str, Any] = {name.replace(".", "__"): value for name, value in plan.overrides.items()}
    address = overrides.pop("address", None)
    try:
        isotach.connect(address, **(overrides | {"client__retry_total": 0})).close()
    except UnavailableError:
        words = [word for name, value in plan.overrides.items() for word in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "isotach.cli", "start", "--detach", *words]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_STARTS_S
        )
        if done.returncode:
            raise IsotachError(f"no cluster answers, and none could be started: {done.stderr.strip()}") from None
