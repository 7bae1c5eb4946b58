"""`isotach fs mv`.

Owns: the choice between a rename (within the namespace) and a copy with removal (to or from local files). Never:
removes a source of which not all has arrived.
"""

import errno
import shlex
from typing import TYPE_CHECKING

import typer

from isotach.base.errors import os_error
from isotach.cli.fs.cp import THREADS_DEFAULT, OverwriteOption, Route, SourcesArgument, TargetArgument, ThreadsOption
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.client import FileSystem


def mv(
    context: typer.Context,
    sources: SourcesArgument,
    target: TargetArgument,
    overwrite: OverwriteOption = False,
    threads: ThreadsOption = THREADS_DEFAULT,
) -> None:
    """Renames within the namespace, atomically; moves between it and local files, which `file:` marks.

    Across mounts nothing can be renamed: copy, then remove.

    isotach fs mv /s3/tmp/part-0 /s3/part-0
    isotach fs mv file:./results /s3/results
    """
    session = session_of(context)
    with session.connect() as fs:
        route = Route(fs, sources, target)
        if route.within_namespace:
            for source in sources:
                with session.each_failure():
                    goal = _rename(fs, route, source, overwrite)
                    session.out.done("mv", {"source": source, "target": goal})
        else:
            _copy_and_remove(session, route, overwrite, threads)
    session.finish()


def _rename(fs: "FileSystem", route: Route, source: str, overwrite: bool) -> str:
    place = route.places[source]
    goal = route.goal_of(place, route.source_side.look(place.path))
    if not overwrite and fs.exists(goal):
        raise os_error(errno.EEXIST, "the target exists: give --overwrite, or another name", goal)
    try:
        fs.rename(place.path, goal, replace=overwrite)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        old, new = shlex.quote(source), shlex.quote(goal)
        advice = f"isotach fs cp -r {old} {new} && isotach fs rm -r {old}"
        message = f"source and target are in different mounts: copy, then remove ({advice})"
        raise os_error(errno.EXDEV, message, source) from error
    return goal


def _copy_and_remove(session: Session, route: Route, overwrite: bool, threads: int) -> None:
    with route.transfer(session, "mv", overwrite, True, threads) as (transfer, bar):
        for source in route.places:
            with session.each_failure():
                if route.copy(transfer, source, recursive=True):
                    route.source_side.remove(route.places[source].path, recursive=True)
                    session.out.done("mv", {"source": source, "files": bar.files, "bytes": bar.bytes})
