"""Arguments and options that several commands share, declared once.

Owns: their names, help texts and completion. Never: holds what only one command takes.
"""

from typing import Annotated

import typer

from isotach.cli.completion import complete_namespace_path

PathArgument = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        help="Absolute path in the namespace.",
        show_default=False,
        autocompletion=complete_namespace_path,
    ),
]
PathsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Absolute paths in the namespace.",
        show_default=False,
        autocompletion=complete_namespace_path,
    ),
]
HumanOption = Annotated[bool, typer.Option("-h", "--human", help="Sizes as 1.5GiB in place of bytes.")]
RecursiveOption = Annotated[bool, typer.Option("-R", "--recursive", help="Everything below as well.")]
SyncOption = Annotated[
    str | None,
    typer.Option(
        "--sync",
        metavar="AGE",
        help="How old metadata of the under storage may be: 0 asks it now, -1 never, 30s, 5m. Default: the mount's.",
        show_default=False,
    ),
]


def sync_interval_s(text: str | None) -> float | None:
    """Seconds from `--sync`. Raises ConfigError for anything but a duration."""
    from isotach.conf.units import parse_duration

    return None if text is None else parse_duration(text)
