"""`isotach fs tree`.

Owns: the branches. Never: holds more than one page of each directory on the way down.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from isotach.cli.arguments import HumanOption, PathArgument
from isotach.cli.entry_text import cached_text, size_text
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.base.types import FileInfo
    from isotach.cli.output import Output
    from isotach.client import FileSystem


class _Level:
    """One directory that is being printed. Knows whether another entry follows, which decides the branch."""

    def __init__(self, entries: "Iterator[FileInfo]", prefix: str) -> None:
        self._entries = entries
        self._next = next(entries, None)
        self.prefix = prefix

    def take(self) -> "FileInfo | None":
        taken = self._next
        self._next = next(self._entries, None) if taken is not None else None
        return taken

    @property
    def at_end(self) -> bool:
        return self._next is None


def tree(
    context: typer.Context,
    path: PathArgument,
    depth: Annotated[
        int | None,
        typer.Option("-L", "--level", metavar="N", min=1, help="Not deeper than N levels.", show_default=False),
    ] = None,
    directories: Annotated[bool, typer.Option("-d", "--directories", help="Directories only.")] = False,
    sizes: Annotated[bool, typer.Option("-s", "--size", help="Size and cached share of files.")] = False,
    human: HumanOption = False,
) -> None:
    """Draws what is below a directory; with --json one object per line, with its depth.

    isotach fs tree -L 2 -s -h /s3
    """
    session = session_of(context)
    with session.connect() as fs:
        root = fs.stat(path)
        if session.out.as_json:
            session.out.json_line({**root.to_dict(), "depth": 0})
        else:
            session.out.line(session.out.path(root.path, "directory"))
        if root.is_dir:
            _descend(session, fs, root, depth, directories, human if sizes or human else None)


def _descend(
    session: Session, fs: "FileSystem", root: "FileInfo", depth_max: int | None, directories: bool, sizes: bool | None
) -> None:
    out, counts = session.out, {"directories": 0, "files": 0}

    def entries(path: str) -> "Iterator[FileInfo]":
        return (info for info in fs.list(path) if info.is_dir or not directories)

    levels = [_Level(entries(root.path), "")]
    while levels:
        level = levels[-1]
        info = level.take()
        if info is None:
            levels.pop()
            continue
        counts["directories" if info.is_dir else "files"] += 1
        if out.as_json:
            out.json_line({**info.to_dict(), "depth": len(levels)})
        else:
            branch = "└── " if level.at_end else "├── "
            out.line(f"{out.paint(level.prefix + branch, 'dim')}{_entry(out, info, sizes)}")
        if info.is_dir and (depth_max is None or len(levels) < depth_max):
            with session.each_failure():
                levels.append(_Level(entries(info.path), level.prefix + ("    " if level.at_end else "│   ")))
    if not out.as_json:
        out.line("")
        out.line(f"{counts['directories']} directories, {counts['files']} files")
    session.finish()


def _entry(out: "Output", info: "FileInfo", sizes: bool | None) -> str:
    name = out.path(info.name, "directory" if info.is_dir else "")
    if sizes is None or info.is_dir:
        return name
    return f"{name}  {out.paint(f'{size_text(info.length, sizes)}, {cached_text(info)} cached', 'dim')}"
