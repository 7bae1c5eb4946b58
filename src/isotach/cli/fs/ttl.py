"""`isotach fs ttl`.

Owns: how a time to live is written. Never: counts it down.
"""

from typing import Annotated, Literal

import typer

from isotach.cli.arguments import PathArgument, RecursiveOption
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
    recursive: RecursiveOption = False,
    inherit: Annotated[
        bool, typer.Option("--inherit", help="Of a directory: each file made or found in it from now on gets it.")
    ] = False,
) -> None:
    """Shows or sets the time to live of a path, counted from now.

    A directory's own time to live ends for the whole tree at once. With --inherit the directory stays, and each file
    that comes into it from then on gets a time to live of its own; with -R as well, also each that is there. What FREE
    finds not persisted is persisted first. Ends are wall-clock times: a clock that is set forward makes what it passes
    over due at once, one that is set back only delays.

    isotach fs ttl /s3/tmp 7d
    isotach fs ttl --inherit -R /s3/logs 30d
    isotach fs ttl /s3/table.parquet 3600 --action FREE
    isotach fs ttl /s3/tmp off
    """
    from isotach.conf.units import format_duration, parse_duration

    session = session_of(context)
    with session.connect() as fs:
        if seconds is not None:
            off = seconds.lower() in ("off", "none", "never", "-1")
            wanted = None if off else parse_duration(seconds)
            counts = fs.set_ttl(path, wanted, action, recursive=recursive, inherit=inherit)
            facts = {"path": path, "ttl": wanted, "ttl_action": None if off else action, "inherit": inherit}
            session.out.done("ttl", {**facts, "changed": counts.changed, "skipped": counts.skipped})
            return
        info = fs.stat(path)
    given_on_s = info.policy.ttl_ms / 1000 if info.policy.ttl_ms >= 0 else None
    given_on_action = None if given_on_s is None else info.policy.ttl_action
    ttl_s = given_on_s if inherit else info.ttl
    shown_action = given_on_action if inherit else info.ttl_action
    if session.out.as_json:
        action_now = None if ttl_s is None else shown_action
        facts = {"inherited_ttl": given_on_s, "inherited_ttl_action": given_on_action}
        session.out.document({"path": info.path, "ttl": ttl_s, "ttl_action": action_now, **facts})
        return
    session.out.line("off" if ttl_s is None else f"{format_duration(ttl_s)}\t{shown_action}")
    if session.out.terminal and not inherit and given_on_s is not None:
        session.out.line(f"files made in it\t{format_duration(given_on_s)}\t{given_on_action}")
