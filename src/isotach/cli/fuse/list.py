"""`isotach fuse list`: the mounts of this machine, with who serves them.

Owns: the table. Never: touches a mount: one that hangs must not hang this.
"""

import os
import time
from pathlib import Path
from typing import Final

import msgspec
import typer

from isotach.cli.output import Column
from isotach.cli.session import session_of
from isotach.conf.units import format_duration

_COLUMNS: Final = (
    Column("mountpoint", style="cyan"),
    Column("source"),
    Column("state"),
    Column("process", right=True),
    Column("since"),
    Column("options"),
)


class ListedMount(msgspec.Struct, frozen=True):
    """One mount as it is shown. `pid` 0: nobody here knows its process."""

    mountpoint: str
    source: str
    state: str  # served, stale, unknown
    pid: int = 0
    server_pid: int = 0
    since_s: int = 0
    restarts: int = 0
    address: str = ""
    passthrough: str = ""  # why there is none
    options: str = ""


def list_mounts(context: typer.Context) -> None:
    """Lists the mounts of Isotach on this machine: which directory, who serves it, since when.

    In a pipe: mountpoint, source, state (served, stale, unknown), process id, seconds, options. A stale mount is one
    that nobody serves any more: the next mount on its folder takes it away, and so does `isotach fuse unmount`.

    isotach fuse list
    isotach fuse list --json
    """
    session = session_of(context)
    mounts = listed_mounts(session.settings().dir)
    if session.out.as_json:
        for each in mounts:
            session.out.json_line(each)
        return
    rows = []
    for each in mounts:
        age_s = max(0, int(time.time()) - each.since_s)
        age = format_duration(age_s) if session.out.terminal else str(age_s)
        known = (str(each.pid), age) if each.pid else ("", "")
        rows.append((each.mountpoint, each.source, each.state, *known, each.options))
    session.out.table(_COLUMNS, rows)


def listed_mounts(folder: Path) -> list[ListedMount]:
    """What the kernel has mounted, with what the notes in `folder` (the key `dir`) say of it."""
    from isotach.fuse.kernel.stale import is_stale, our_mounts
    from isotach.fuse.state import all_states

    notes = {state.identity: state for state in all_states(folder)}
    found = []
    for row in our_mounts():
        path = os.fsdecode(row.mountpoint)
        state = notes.get(row.device)
        if state is None or state.mountpoint != path:
            told = "stale" if is_stale(Path(path)) else "unknown"
            found.append(ListedMount(path, os.fsdecode(row.source).removeprefix("isotach:"), told))
            continue
        alive = state.is_alive or not is_stale(Path(path))
        found.append(
            ListedMount(
                path,
                state.source,
                "served" if alive else "stale",
                state.pid,
                state.server_pid,
                state.since_s,
                state.restarts,
                state.address,
                state.passthrough,
                ",".join(state.options),
            )
        )
    return found
