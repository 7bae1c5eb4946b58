"""`isotach fs cp`, and what it shares with `mv`: where each source goes, and the transfer that brings it there.

Owns: the meaning of the arguments, as cp(1) has it. Never: moves a byte itself (`cli.transfer` does).
"""

import contextlib
import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from isotach.base.errors import InvalidArgumentError, os_error
from isotach.cli.completion import complete_namespace_path
from isotach.cli.progress import Bar, transfer_bar
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.cli.transfer.engine import Transfer
    from isotach.cli.transfer.place import Entry, Place, Side
    from isotach.client import FileSystem

THREADS_DEFAULT: Final = 8
THREADS_MAX: Final = 64

SourcesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Absolute paths in the namespace, or file:PATH for local ones.",
        show_default=False,
        autocompletion=complete_namespace_path,
    ),
]
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="Path in the namespace, or file:PATH. An existing directory, or a path with a slash at its end, gets the "
        "sources under their own names.",
        show_default=False,
        autocompletion=complete_namespace_path,
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", "-f", help="Replace files that exist.")]
PreserveOption = Annotated[bool, typer.Option("--preserve", "-p", help="Permission bits and times of files too.")]
ThreadsOption = Annotated[
    int, typer.Option("--threads", "-j", metavar="N", min=1, max=THREADS_MAX, help="Files copied at once.")
]
WriteTypeOption = Annotated[
    Literal["MUST_CACHE", "CACHE_THROUGH", "THROUGH", "ASYNC_THROUGH"] | None,
    typer.Option("--write-type", case_sensitive=False, help="Default: client.write_type.", show_default=False),
]


def cp(
    context: typer.Context,
    sources: SourcesArgument,
    target: TargetArgument,
    recursive: Annotated[
        bool, typer.Option("-r", "-R", "--recursive", help="Directories, with everything below them.")
    ] = False,
    overwrite: OverwriteOption = False,
    preserve: PreserveOption = False,
    threads: ThreadsOption = THREADS_DEFAULT,
    write_type: WriteTypeOption = None,
) -> None:
    """Copies files and trees within the namespace, or between it and local files, which `file:` marks.

    A file that fails is reported, the others are copied, and the exit code is that of the first failure.

    isotach fs cp file:./table.csv /s3/table.csv
    isotach fs cp -r file:./photos /s3/photos
    isotach fs cp -r /s3/results file:/tmp/
    """
    session = session_of(context)
    with session.connect() as fs:
        route = Route(fs, sources, target, write_type)
        with route.transfer(session, "cp", overwrite, preserve, threads) as (transfer, bar):
            for source in sources:
                with session.each_failure():
                    route.copy(transfer, source, recursive)
        facts = {"sources": sources, "target": target, "files": bar.files, "bytes": bar.bytes}
        session.out.done("cp", {**facts, "failures": session.failures.count})
    session.finish()


class Route:
    """From which side to which side, and under which name each source arrives."""

    def __init__(self, fs: "FileSystem", sources: list[str], target: str, write_type: str | None = None) -> None:
        from isotach.cli.transfer.local import LocalSide
        from isotach.cli.transfer.namespace import NamespaceSide
        from isotach.cli.transfer.place import parse_place

        self.places = {source: parse_place(source) for source in sources}
        self.target = parse_place(target)
        if len({place.local for place in self.places.values()}) > 1:
            raise InvalidArgumentError(
                "the sources are partly local: copy local files and those of the namespace apart"
            )
        from_local = self.places[sources[0]].local
        if from_local and self.target.local:
            raise InvalidArgumentError("source and target are both local: use cp or mv itself")
        self.within_namespace = not from_local and not self.target.local
        namespace = NamespaceSide(fs, write_type)
        self.source_side: Side = LocalSide() if from_local else namespace
        self.target_side: Side = LocalSide() if self.target.local else namespace
        self._into = self._target_is_directory()
        if len(sources) > 1 and not self._into:
            raise os_error(errno.ENOTDIR, "several sources need a directory as target: make it first", target)

    def goal_of(self, place: "Place", entry: "Entry") -> str:
        """Where exactly a source arrives."""
        goal = self.target_side.join(self.target.path, entry.name) if self._into else self.target.path
        if self.within_namespace:
            from isotach.cli.transfer.engine import refuse_overlap

            refuse_overlap(place.path, goal)
        return goal

    def copy(self, transfer: "Transfer", source: str, recursive: bool) -> bool:
        """Copies one source; whether all of it arrived."""
        place = self.places[source]
        entry = self.source_side.look(place.path)
        if entry.is_dir and not recursive:
            raise os_error(errno.EISDIR, "the source is a directory: give -r to copy it", source)
        goal = self.goal_of(place, entry)
        if self._into and not entry.is_dir:
            self.target_side.make_directory(self.target.path)
        return transfer.copy(entry, goal)

    @contextlib.contextmanager
    def transfer(
        self, session: Session, title: str, overwrite: bool, preserve: bool, threads: int
    ) -> "Iterator[tuple[Transfer, Bar]]":
        """The transfer for this route, with its bar."""
        from isotach.cli.transfer.engine import Transfer

        with (
            transfer_bar(title, session.out, session.failures) as bar,
            Transfer(
                self.source_side,
                self.target_side,
                overwrite=overwrite,
                preserve=preserve,
                threads=threads,
                bar=bar,
                failed=session.failures.report,
            ) as transfer,
        ):
            yield transfer, bar

    def _target_is_directory(self) -> bool:
        if self.target.path.endswith("/"):
            return True
        try:
            return self.target_side.look(self.target.path).is_dir
        except FileNotFoundError:
            return False
