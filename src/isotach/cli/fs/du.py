"""`isotach fs du` and `isotach fs count`: sums over a tree, in memory that grows with its depth only.

Owns: the sums on the way up. Never: keeps entries.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from isotach.cli.arguments import HumanOption, PathsArgument
from isotach.cli.entry_text import size_text
from isotach.cli.output import Column
from isotach.cli.session import session_of

if TYPE_CHECKING:
    from isotach.base.types import FileInfo

_DU: Final = (
    Column("size", right=True, style="green"),
    Column("cached", right=True, style="cyan"),
    Column("memory", right=True, style="cyan"),
    Column("path"),
)


class Sum:
    """What lies below one directory."""

    __slots__ = ("cached_bytes", "directories", "files", "length_bytes", "memory_bytes", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.files = 0
        self.directories = 0
        self.length_bytes = 0
        self.cached_bytes = 0
        self.memory_bytes = 0

    def add_file(self, info: "FileInfo") -> None:
        """Counts one file."""
        self.files += 1
        self.length_bytes += info.length
        self.cached_bytes += info.cached_bytes
        self.memory_bytes += info.memory_bytes

    def add(self, other: "Sum") -> None:
        """Takes in a directory below this one."""
        self.files += other.files
        self.directories += other.directories + 1
        self.length_bytes += other.length_bytes
        self.cached_bytes += other.cached_bytes
        self.memory_bytes += other.memory_bytes

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {name: getattr(self, name) for name in ("path", *(each for each in self.__slots__ if each != "path"))}


def directory_sums(root: str, entries: "Iterable[FileInfo]") -> Iterator[Sum]:
    """The sum of every directory, innermost first, the root's last. `entries` come depth first, a directory ahead of
    what it holds."""
    stack = [Sum(root)]
    for info in entries:
        while len(stack) > 1 and not info.path.startswith(stack[-1].path + "/"):
            yield _pop(stack)
        if info.is_dir:
            stack.append(Sum(info.path))
        else:
            stack[-1].add_file(info)
    while stack:
        yield _pop(stack)


def _pop(stack: list[Sum]) -> Sum:
    done = stack.pop()
    if stack:
        stack[-1].add(done)
    return done


def du(
    context: typer.Context,
    paths: PathsArgument,
    summarize: Annotated[bool, typer.Option("-s", "--summarize", help="Only the total of each path.")] = False,
    human: HumanOption = False,
) -> None:
    """Adds up sizes: bytes in files, of these cached, of these in memory, then the directory, innermost first.

    With --json one object per line.

    isotach fs du -s -h /s3
    """
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                sums = directory_sums(path.rstrip("/") or "/", fs.list(path, recursive=True))
                shown = _last(sums) if summarize else sums
                if session.out.as_json:
                    for each in shown:
                        session.out.json_line(each.to_dict())
                    continue
                rows = (
                    (
                        size_text(each.length_bytes, human),
                        size_text(each.cached_bytes, human),
                        size_text(each.memory_bytes, human),
                        session.out.path(each.path),
                    )
                    for each in shown
                )
                session.out.stream(_DU, rows)
    session.finish()


def count(context: typer.Context, paths: PathsArgument, human: HumanOption = False) -> None:
    """Counts what is below a path: files, directories, bytes, then the path.

    isotach fs count /s3
    """
    session = session_of(context)
    columns = (
        Column("files", right=True),
        Column("directories", right=True),
        Column("bytes", right=True),
        Column("path"),
    )
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                total = next(_last(directory_sums(path.rstrip("/") or "/", fs.list(path, recursive=True))))
                if session.out.as_json:
                    facts = {"path": total.path, "files": total.files, "directories": total.directories}
                    session.out.json_line({**facts, "length_bytes": total.length_bytes})
                else:
                    size = size_text(total.length_bytes, human)
                    row = (str(total.files), str(total.directories), size, session.out.path(total.path))
                    session.out.stream(columns, [row])
    session.finish()


def _last(sums: Iterator[Sum]) -> Iterator[Sum]:
    last = None
    for each in sums:
        last = each
    if last is not None:
        yield last
