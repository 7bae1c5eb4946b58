"""`isotach config`: the configuration in force, and where each value came from.

Owns: how it is shown. Never: writes a configuration.
"""

from typing import Annotated, Final

import typer

from isotach.base.errors import ConfigError
from isotach.cli.output import Column
from isotach.cli.session import session_of

_COLUMNS: Final = (
    Column("key", style="cyan"),
    Column("value", style="bold"),
    Column("origin"),
    Column("unit"),
    Column("default", style="dim"),
)


def list_keys(
    context: typer.Context,
    changed: Annotated[bool, typer.Option("--changed", help="Only keys that something set.")] = False,
) -> None:
    """Lists every key: value, origin (default, file, environment variable, argument), unit, default.

    isotach config list
    isotach config list --changed --json
    """
    session = session_of(context)
    rows = session.settings().origins()
    shown = [row for row in rows if not changed or row.origin != "default"]
    if session.out.as_json:
        session.out.document(shown)
        return
    cells = [(row.key, row.value_text, row.origin, row.unit, row.default) for row in shown]
    session.out.table(_COLUMNS, cells)


def get(context: typer.Context, key: Annotated[str, typer.Argument(help="For example worker.mem_size.")]) -> None:
    """Prints the value of one key, for scripts; with --json everything that is known of it.

    isotach config get worker.mem_size
    """
    session = session_of(context)
    rows = {row.key: row for row in session.settings().origins()}
    row = rows.get(key)
    if row is None:
        from isotach.conf.keys import nearest

        near = nearest(key, rows)
        hint = "" if near is None else f"; did you mean {near}?"
        raise ConfigError(f"there is no configuration key {key!r}{hint}; `isotach config list` shows all keys")
    if session.out.as_json:
        session.out.document(row)
    else:
        session.out.line(row.value_text)
