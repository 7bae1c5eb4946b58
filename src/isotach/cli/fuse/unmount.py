"""`isotach fuse unmount`: ends a mount, and waits until what was written through it is published.

Owns: its flags and that wait. Never: kills the processes of a mount.
"""

import errno
from pathlib import Path
from typing import Annotated

import typer

from isotach.base.errors import DeadlineExceededError, os_error
from isotach.base.limits import FUSE_STOP_S
from isotach.cli.session import session_of


def unmount(
    context: typer.Context,
    mountpoint: Annotated[Path, typer.Argument(metavar="MOUNTPOINT", help="The folder.")],
    lazy: Annotated[
        bool,
        typer.Option("--lazy", "-z", help="Also when it is in use: the folder is free at once, its users go on."),
    ] = False,
) -> None:
    """Unmounts a folder. When it is in use the error names by whom, and nothing changes.

    Comes back when what was written is where the write type says; with --lazy at once.

    isotach fuse unmount /mnt/isotach
    isotach fuse unmount /mnt/isotach --lazy
    """
    from isotach.fuse.kernel import mounting
    from isotach.fuse.kernel.options import FS_TYPE
    from isotach.fuse.kernel.stale import mount_at
    from isotach.fuse.plan import real_path
    from isotach.fuse.state import read_state, state_file, wait_for_end

    session = session_of(context)
    path = real_path(mountpoint)
    row = mount_at(path)
    if row is not None and row.fs_type != FS_TYPE:
        raise os_error(errno.EINVAL, f"{path} is a mount of another kind ({row.fs_type}): umount(8) ends it")
    state = read_state(state_file(session.settings().dir, path))
    mounting.unmount(path, lazy=lazy)
    if state is not None and state.is_alive and not lazy and not wait_for_end(state.pid, FUSE_STOP_S):
        raise DeadlineExceededError(
            f"{path} is unmounted, but its process {state.pid} has not ended: it may still be publishing files"
        )
    session.out.done("fuse unmount", {"mountpoint": str(path), "lazy": lazy})
