"""`isotach fs ls`.

Owns: the columns of a listing. Never: sorts or gathers: entries are printed as they come, in byte order of the names.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from isotach.cli.arguments import HumanOption, PathsArgument, RecursiveOption, SyncOption, sync_interval_s
from isotach.cli.entry_text import cached_text, mode_text, persistence_text, size_text, time_text
from isotach.cli.output import Column, Output
from isotach.cli.session import session_of

if TYPE_CHECKING:
    from isotach.base.types import FileInfo
    from isotach.client import LostInfo

_LONG: Final = (
    Column("mode", style="dim"),
    Column("owner", style="yellow"),
    Column("group", style="yellow"),
    Column("size", right=True, style="green"),
    Column("state", style="dim"),
    Column("cached", right=True, style="cyan"),
    Column("modified", style="dim"),
    Column("path"),
)
_LOST: Final = (
    Column("path"),
    Column("last worker", style="cyan"),
    Column("host"),
    Column("lost since", style="dim"),
)


def ls(
    context: typer.Context,
    paths: PathsArgument,
    long: Annotated[
        bool, typer.Option("-l", "--long", help="Mode, owner, group, size, state, cached share, time.")
    ] = False,
    recursive: RecursiveOption = False,
    human: HumanOption = False,
    directory: Annotated[
        bool, typer.Option("-d", "--directory", help="The directory itself, not what it holds.")
    ] = False,
    lost: Annotated[
        bool, typer.Option("--lost", help="Only files whose last copy is gone: they were never persisted.")
    ] = False,
    sync: SyncOption = None,
) -> None:
    """Lists directories, in byte order of the names, as the entries come.

    The columns of -l: mode, owner, group, size in bytes, PERSISTED or not, share that is cached (DIR for a directory),
    time of modification, path. With --json one object per line.

    With --lost, each path is followed by the worker that had the last copy, its host, and since when it is gone; the
    file is found again if that worker returns.

    isotach fs ls -l -h /s3
    isotach fs ls -R / --json
    isotach fs ls --lost -R /
    """
    session = session_of(context)
    interval_s = sync_interval_s(sync)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                entries: Iterable[FileInfo]
                if lost:
                    _print_lost(session.out, fs.lost(path, recursive))
                    continue
                if directory:
                    entries = [fs.stat(path, metadata_sync_interval=interval_s, follow_symlinks=False)]
                else:
                    entries = fs.list(path, recursive, metadata_sync_interval=interval_s)
                _print(session.out, entries, long, human)
    session.finish()


def _print(out: Output, entries: "Iterable[FileInfo]", long: bool, human: bool) -> None:
    if out.as_json:
        for info in entries:
            out.json_line(info.to_dict())
    elif long:
        out.stream(_LONG, _long_rows(out, entries, human))
    else:
        for info in entries:
            out.line(painted_path(out, info))


def _print_lost(out: Output, files: "Iterable[LostInfo]") -> None:
    if out.as_json:
        for file in files:
            facts = {"last_worker": file.worker_id, "last_host": file.host, "lost_since": file.since}
            out.json_line({**file.info.to_dict(), **facts})
    else:
        out.stream(_LOST, ((out.path(each.info.path), *_whose(each)) for each in files))


def _whose(file: "LostInfo") -> tuple[str, str, str]:
    return file.worker_id or "unknown", file.host or "unknown", time_text(file.since)


def _long_rows(out: Output, entries: "Iterable[FileInfo]", human: bool) -> "Iterator[tuple[str, ...]]":
    for info in entries:
        yield (
            mode_text(info),
            info.owner,
            info.group,
            size_text(info.length, human),
            persistence_text(info),
            cached_text(info),
            time_text(info.mtime),
            painted_path(out, info) + (f" -> {info.target}" if info.target is not None else ""),
        )


def painted_path(out: Output, info: "FileInfo") -> str:
    """The path; blue for a directory on a terminal."""
    return out.path(info.path, "directory" if info.is_dir else "")
