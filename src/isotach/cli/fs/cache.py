"""`isotach fs load`, `free`, `persist`, `pin` and `unpin`: what the cache and the under storage hold.

Owns: their flags and the bar of `load`. Never: moves a byte: workers do.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from isotach.cli.arguments import PathsArgument
from isotach.cli.progress import transfer_bar
from isotach.cli.session import session_of

if TYPE_CHECKING:
    from isotach.client import FileSystem


def load(context: typer.Context, paths: PathsArgument) -> None:
    """Brings files, and everything below directories, into the cache, and waits.

    isotach fs load /s3/training
    """
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                with transfer_bar("load", session.out, session.failures) as bar:
                    count = fs.load(path, on_progress=lambda info: bar.file_done(info.length))
                session.out.done(
                    "load", {"path": path, "files": count}, _told(session.out.terminal, "loaded", count, path)
                )
    session.finish()


def free(
    context: typer.Context,
    paths: PathsArgument,
    recursive: Annotated[bool, typer.Option("-R", "--recursive", help="Everything below directories.")] = False,
) -> None:
    """Drops files from the cache; nothing is lost: only what the under storage holds is dropped.

    isotach fs free -R /s3/training
    """
    _each(context, paths, "free", "freed", lambda fs, path: fs.free(path, recursive))


def persist(
    context: typer.Context,
    paths: PathsArgument,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until the under storage has them.")] = True,
) -> None:
    """Writes files, and everything below directories, that are only cached to the under storage.

    isotach fs persist /results
    """
    _each(context, paths, "persist", "persisted" if wait else "queued", lambda fs, path: fs.persist(path, wait))


def pin(context: typer.Context, paths: PathsArgument) -> None:
    """Keeps files, and everything below directories, from being evicted.

    isotach fs pin /s3/hot
    """
    _each(context, paths, "pin", "", lambda fs, path: fs.pin(path))


def unpin(context: typer.Context, paths: PathsArgument) -> None:
    """Lets pinned files be evicted again.

    isotach fs unpin /s3/hot
    """
    _each(context, paths, "unpin", "", lambda fs, path: fs.unpin(path))


def _each(
    context: typer.Context,
    paths: list[str],
    name: str,
    told: str,
    action: "Callable[[FileSystem, str], int | None]",
) -> None:
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                count = action(fs, path)
                facts: dict[str, object] = {"path": path} if count is None else {"path": path, "files": count}
                session.out.done(name, facts, _told(session.out.terminal and bool(told), told, count or 0, path))
    session.finish()


def _told(wanted: bool, verb: str, count: int, path: str) -> str:
    return f"{verb} {count} file{'' if count == 1 else 's'} in {path}" if wanted else ""
