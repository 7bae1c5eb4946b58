"""`isotach fs mount`, `isotach fs unmount`, `isotach fs mounts`.

Owns: how options of an under storage are written on a command line. Never: shows a secret (the master masks them).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isotach.base.errors import InvalidArgumentError
from isotach.cli.arguments import PathsArgument, sync_interval_s
from isotach.cli.completion import complete_namespace_path
from isotach.cli.session import Session, session_of
from isotach.cli.status import MOUNT_COLUMNS, mount_cells

if TYPE_CHECKING:
    from isotach.client import FileSystem


def mount(
    context: typer.Context,
    path: Annotated[
        str | None,
        typer.Argument(metavar="[PATH]", help="Where in the namespace.", autocompletion=complete_namespace_path),
    ] = None,
    uri: Annotated[
        str | None, typer.Argument(metavar="[URI]", help="s3://bucket/prefix, file:///folder, /folder.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="Of the under storage: endpoint, region, access_key_id, ...; repeatable. KEY=@FILE reads the value "
            "from a file, which keeps secrets out of the list of processes.",
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("--readonly", "--read-only", help="Refuse every change below it.")] = False,
    sync_interval: Annotated[
        str | None,
        typer.Option(
            "--sync-interval",
            metavar="AGE",
            help="How old metadata may get before the under storage is asked again: -1 never, 0 always, 30s, 5m. "
            "Default: master.metadata_sync_interval.",
        ),
    ] = None,
) -> None:
    """Attaches an under storage to the namespace; without arguments shows what is mounted.

    isotach fs mount /data /mnt/nfs/data --readonly
    isotach fs mount /s3 s3://bucket/prefix --option region=eu-west-1
    isotach fs mount /s3 s3://bucket --option access_key_id=me --option secret_access_key=@/etc/isotach/s3-secret
    """
    session = session_of(context)
    if path is not None and uri is None:
        raise InvalidArgumentError(f"what shall be mounted at {path}? Give a URI, for example s3://bucket/prefix")
    interval_s = sync_interval_s(sync_interval)
    named = options_of(options or [])
    with session.connect() as fs:
        if path is None or uri is None:
            _show(session, fs)
            return
        fs.mount(path, _absolute_uri(uri), named, read_only, metadata_sync_interval=interval_s)
    session.out.done("mount", {"path": path, "uri": uri, "read_only": read_only})


def unmount(context: typer.Context, paths: PathsArgument) -> None:
    """Detaches under storages; what they hold stays where it is.

    isotach fs unmount /s3
    """
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                fs.unmount(path)
                session.out.done("unmount", {"path": path})
    session.finish()


def mounts(context: typer.Context) -> None:
    """Shows the mounts: path, under storage, read-only or read-write, how old metadata may get.

    With --json one document, with the options; secrets are masked.

    isotach fs mounts
    """
    session = session_of(context)
    with session.connect() as fs:
        _show(session, fs)


def options_of(texts: list[str]) -> dict[str, str]:
    """Options by name; a value `@FILE` is what the file holds. Raises InvalidArgumentError for a text without `=`."""
    named: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            # Not the text itself: it may be a secret.
            raise InvalidArgumentError("an --option is not KEY=VALUE: give for example --option region=eu-west-1")
        if value.startswith("@"):
            value = Path(value[1:]).expanduser().read_text(encoding="utf-8").strip()
        named[name] = value
    return named


def _absolute_uri(uri: str) -> str:
    """A relative folder starts where the user is, not where the master is."""
    return str(Path(uri).expanduser().absolute()) if uri.startswith((".", "~")) and "://" not in uri else uri


def _show(session: Session, fs: "FileSystem") -> None:
    found = fs.mounts()
    if session.out.as_json:
        session.out.document(found)
    else:
        session.out.table(MOUNT_COLUMNS, [mount_cells(each) for each in found])
