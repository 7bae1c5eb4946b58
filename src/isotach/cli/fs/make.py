"""`isotach fs mkdir`, `isotach fs touch` and `isotach fs ln`.

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


def ln(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="What the new name leads to.", show_default=False)],
    path: Annotated[str, typer.Argument(metavar="PATH", help="The new name.", show_default=False)],
    symbolic: Annotated[
        bool, typer.Option("-s", "--symbolic", help="A symbolic link: TARGET is kept as it is, and need not exist.")
    ] = False,
) -> None:
    """Gives a file one more name, or makes a symbolic link.

    Links are known to Isotach only: the under storage has the content under the file's first name.

    isotach fs ln -s ../2026/table.parquet /s3/latest/table.parquet
    """
    session = session_of(context)
    with session.connect() as fs, session.each_failure():
        if symbolic:
            fs.symlink(target, path)
        else:
            fs.link(target, path)
        session.out.done("ln", {"path": path, "target": target})
    session.finish()
