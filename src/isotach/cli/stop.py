"""`isotach stop`: ends the standalone cluster of a folder.

Owns: finding its process and waiting for it. Never: kills a process that is not `isotach start` of that folder.
"""

import errno
import os
import select
import signal
from pathlib import Path
from typing import Final

import typer

from isotach.base.errors import DeadlineExceededError, IsotachError, UnavailableError, os_error
from isotach.cli.roles import DirOption, absolute
from isotach.cli.session import session_of

STOP_TIMEOUT_S: Final = 60.0


def stop(context: typer.Context, dir: DirOption = None) -> None:
    """Stops the standalone cluster that `isotach start` runs in DIR, and waits until it has ended.

    isotach stop
    isotach stop --dir /data/isotach
    """
    session = session_of(context)
    folder = session.settings(dir=absolute(dir)).dir
    pid = _pid_in(folder)
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        raise _not_running(folder) from None
    try:
        # The descriptor names this very process from here on, even should its number be given to another.
        _check_is_ours(pid, folder)
        _end(process, folder)
        if not select.select([process], [], [], STOP_TIMEOUT_S)[0]:
            raise DeadlineExceededError(f"process {pid} does not end: see {folder / 'logs'}")
    except ProcessLookupError:
        pass  # it ended by itself meanwhile
    finally:
        os.close(process)
    session.out.done("stop", {"dir": str(folder), "pid": pid}, "stopped" if session.out.terminal else "")


def _pid_in(folder: Path) -> int:
    try:
        return int((folder / "pid").read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise _not_running(folder) from None


def _end(process: int, folder: Path) -> None:
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except PermissionError as error:
        hint = "the cluster was started by another user: ask them, or the administrator, to stop it"
        raise os_error(errno.EPERM, hint, str(folder)) from error


def _not_running(folder: Path) -> UnavailableError:
    return UnavailableError(f"no cluster runs in {folder}: `isotach start --dir {folder}` starts one")


def _check_is_ours(pid: int, folder: Path) -> None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        raise _not_running(folder) from None
    if b"start" in words and any(b"isotach" in word for word in words):
        return
    told = os.fsdecode(b" ".join(words)).strip()[:80]
    raise IsotachError(f"the cluster in {folder} belongs to process {pid} ({told}): end it there")
