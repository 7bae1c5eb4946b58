"""`isotach fs mkdir` and `isotach fs touch`.

Owns: their flags. Never: writes bytes (`cp` does).
"""

from typing import Annotated

import typer

from isotach.cli.arguments import PathsArgument
from isotach.cli.fs.attributes import mode_of
from isotach.cli.session import session_of


def mkdir(
    context: typer.Context,
    paths: PathsArgument,
    parents: Annotated[
        bool, typer.Option("-p", "--parents", help="Parents as well; no error when it is there already.")
    ] = False,
    mode: Annotated[
        str | None, typer.Option("-m", "--mode", metavar="MODE", help="Octal, as 750.", show_default=False)
    ] = None,
) -> None:
    """Makes directories.

    isotach fs mkdir -p /s3/2026/08
    """
    session = session_of(context)
    bits = None if mode is None else mode_of(mode)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                fs.mkdir(path, parents=parents, exist_ok=parents, mode=bits)
                session.out.done("mkdir", {"path": path})
    session.finish()


def touch(context: typer.Context, paths: PathsArgument) -> None:
    """Makes empty files, or sets the times of what exists to now.

    isotach fs touch /s3/_SUCCESS
    """
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                fs.touch(path)
                session.out.done("touch", {"path": path})
    session.finish()
