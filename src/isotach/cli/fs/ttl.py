"""`isotach fs ttl`.

Owns: how a time to live is written. Never: counts it down.
"""

from typing import Annotated, Literal

import typer

from isotach.cli.arguments import PathArgument
from isotach.cli.session import session_of


def ttl(
    context: typer.Context,
    path: PathArgument,
    seconds: Annotated[
        str | None,
        typer.Argument(metavar="[TIME]", help="Seconds, 90m, 7d; off for none. Without it the present one is shown."),
    ] = None,
    action: Annotated[
        Literal["DELETE", "FREE"],
        typer.Option("--action", case_sensitive=False, help="DELETE removes the path, FREE drops its cached pages."),
    ] = "DELETE",
) -> None:
    """Shows or sets the time to live of a path, counted from now.

    isotach fs ttl /s3/tmp 7d
    isotach fs ttl /s3/table.parquet 3600 --action FREE
    isotach fs ttl /s3/tmp off
    """
    from isotach.conf.units import format_duration, parse_duration

    session = session_of(context)
    with session.connect() as fs:
        if seconds is not None:
            off = seconds.lower() in ("off", "none", "never", "-1")
            wanted = None if off else parse_duration(seconds)
            fs.set_ttl(path, wanted, action)
            session.out.done("ttl", {"path": path, "ttl": wanted, "ttl_action": None if off else action})
            return
        info = fs.stat(path)
    facts = {"path": info.path, "ttl": info.ttl, "ttl_action": None if info.ttl is None else info.ttl_action}
    if session.out.as_json:
        session.out.document(facts)
    else:
        session.out.line("off" if info.ttl is None else f"{format_duration(info.ttl)}\t{info.ttl_action}")
