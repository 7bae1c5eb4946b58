"""How a parent and its child process stay in step: the ready report, the parent watch, the stop signal.

Owns: the two inherited descriptors (`--ready-fd`, `--life-fd`) and their one-line JSON format. Never: starts processes
(`supervisor.py`) or knows what a role does.

The life pipe, not PR_SET_PDEATHSIG, tells a child that its parent is gone: the kernel's signal follows the *thread*
that forked, which in a notebook may end long before the process does.
"""

import json
import os
import signal
import threading
from typing import Any

import msgspec

from isotach.base.errors import ErrorReply, from_reply, to_reply


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What a child says once it serves. `ports` are resolved, so that a restart can ask for the same ones."""

    pid: int
    address: str
    ports: dict[str, int] = {}
    web_port: int = -1
    child_pids: list[int] = []
    note: str = ""  # what the parent hands to the child that takes this one's place, as it is


def report_ready(ready_fd: int | None, ready: Ready) -> None:
    """Tells the parent, once, and closes the descriptor. Without a descriptor: nothing."""
    _write(ready_fd, {"ready": msgspec.to_builtins(ready)})


def report_failure(ready_fd: int | None, error: BaseException) -> None:
    """Tells the parent why this process cannot start."""
    _write(ready_fd, {"error": list(msgspec.to_builtins(to_reply(error), builtin_types=(bytes,)))})


def _write(ready_fd: int | None, document: dict[str, Any]) -> None:
    if ready_fd is None or ready_fd < 0:
        return
    try:
        os.write(ready_fd, json.dumps(document, default=os.fsdecode).encode() + b"\n")
    except BrokenPipeError:
        pass  # the parent stopped waiting
    finally:
        os.close(ready_fd)


def parse_report(line: bytes) -> Ready:
    """What the parent makes of the line: the report, or the child's own error raised here."""
    document = json.loads(line)
    if "error" in document:
        code, number, message, path = document["error"]
        raise from_reply(ErrorReply(code, number, message, None if path is None else os.fsencode(path)))
    return msgspec.convert(document["ready"], Ready)


def watch_parent(life_fd: int | None) -> None:
    """Sends this process SIGTERM when the other end of `life_fd` closes: the parent is gone."""
    if life_fd is None or life_fd < 0:
        return

    def wait() -> None:
        while os.read(life_fd, 64):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
