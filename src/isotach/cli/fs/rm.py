"""`isotach fs rm`.

Owns: its flags. Never: asks back: removing a tree takes the explicit -r.
"""

import errno
from typing import Annotated

import typer

from isotach.base.errors import os_error
from isotach.cli.arguments import PathsArgument
from isotach.cli.session import session_of


def rm(
    context: typer.Context,
    paths: PathsArgument,
    recursive: Annotated[
        bool, typer.Option("-r", "-R", "--recursive", help="Directories, with everything below them.")
    ] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="What is not there is no error.")] = False,
) -> None:
    """Removes files (and with -r directories), here and in the under storage.

    isotach fs rm /s3/old.csv
    isotach fs rm -r /s3/tmp
    """
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                try:
                    if not recursive and fs.stat(path).is_dir:
                        raise os_error(errno.EISDIR, "the path is a directory: give -r to remove it", path)
                    fs.remove(path, recursive=recursive)
                except FileNotFoundError:
                    if not force:
                        raise
                    continue
                session.out.done("rm", {"path": path})
    session.finish()
