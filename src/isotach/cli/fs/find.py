"""`isotach fs find`.

Owns: the conditions, and how they are written. Never: gathers: a match is printed when it is met.
"""

import fnmatch
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isotach.base.errors import InvalidArgumentError
from isotach.cli.arguments import PathsArgument
from isotach.cli.fs.ls import painted_path
from isotach.cli.session import session_of

if TYPE_CHECKING:
    from isotach.base.types import FileInfo
    from isotach.client import FileSystem

Condition = Callable[["FileInfo"], bool]


def find(
    context: typer.Context,
    paths: PathsArgument,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="GLOB", help="Pattern of the last component: '*.csv'.", show_default=False),
    ] = None,
    type: Annotated[
        Literal["f", "d", "l"] | None,
        typer.Option("--type", help="f for files, d for directories, l for symbolic links.", show_default=False),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="[+-]SIZE", help="+1GiB: over, -4KiB: under, 0: exactly.", show_default=False),
    ] = None,
    newer: Annotated[
        str | None,
        typer.Option(
            "--newer", metavar="AGE|PATH", help="Modified within AGE (2h, 7d), or after PATH.", show_default=False
        ),
    ] = None,
    cached: Annotated[
        bool | None,
        typer.Option("--cached/--not-cached", help="Files wholly in the cache, or not.", show_default=False),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--max-depth", metavar="N", min=0, help="Not deeper than N levels.", show_default=False),
    ] = None,
) -> None:
    """Prints the paths below PATH that meet every condition, as they are met; with --json one object per line.

    isotach fs find /s3 --name '*.parquet' --size +1GiB
    isotach fs find / --type f --newer 1h --not-cached
    """
    session = session_of(context)
    with session.connect() as fs:
        conditions = _conditions(fs, name, type, size, newer, cached)
        for path in paths:
            with session.each_failure():
                for info in _entries(fs, path, depth):
                    if not all(condition(info) for condition in conditions):
                        continue
                    if session.out.as_json:
                        session.out.json_line(info.to_dict())
                    else:
                        session.out.line(painted_path(session.out, info))
    session.finish()


def _entries(fs: "FileSystem", path: str, depth_max: int | None) -> "Iterator[FileInfo]":
    root = fs.stat(path)
    yield root
    if root.is_dir:
        yield from fs.list(path, recursive=True) if depth_max is None else _down_to(fs, path, depth_max)


def _down_to(fs: "FileSystem", path: str, depth: int) -> "Iterator[FileInfo]":
    levels = [fs.list(path)] if depth else []
    while levels:
        info = next(levels[-1], None)
        if info is None:
            levels.pop()
            continue
        yield info
        if info.is_dir and len(levels) < depth:
            levels.append(fs.list(info.path))


def _conditions(
    fs: "FileSystem", name: str | None, type: str | None, size: str | None, newer: str | None, cached: bool | None
) -> list[Condition]:
    found: list[Condition] = []
    if name is not None:
        found.append(lambda info: fnmatch.fnmatchcase(info.name, name))
    if type is not None:
        found.append(lambda info: {"f": info.is_file, "d": info.is_dir, "l": info.is_symlink}[type])
    if size is not None:
        found.append(size_condition(size))
    if newer is not None:
        since = fs.stat(newer).mtime if newer.startswith("/") else time.time() - _age_s(newer)
        found.append(lambda info: info.mtime > since)
    if cached is not None:
        found.append(lambda info: not info.is_dir and (info.cached_percent == 100) == cached)
    return found


def size_condition(text: str) -> Condition:
    """Files over (+), under (-) or of exactly that size. Raises ConfigError for anything but a size."""
    from isotach.conf.units import parse_size

    wanted = parse_size(text.lstrip("+-"))
    if text.startswith("+"):
        return lambda info: not info.is_dir and info.length > wanted
    if text.startswith("-"):
        return lambda info: not info.is_dir and info.length < wanted
    return lambda info: not info.is_dir and info.length == wanted


def _age_s(text: str) -> float:
    from isotach.conf.units import parse_duration

    seconds = parse_duration(text)
    if seconds < 0:
        raise InvalidArgumentError(f"{text!r} is no age: give for example 2h, 7d, or an absolute path")
    return seconds
