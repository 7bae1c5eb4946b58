"""`isotach fs location`.

Owns: the columns. Never: asks a worker: these are the master's soft locations.
"""

from typing import Final

import typer

from isotach.cli.arguments import PathArgument
from isotach.cli.output import Column
from isotach.cli.session import session_of

_COLUMNS: Final = (
    Column("offset", right=True),
    Column("length", right=True, style="green"),
    Column("hosts", style="cyan"),
    Column("workers", style="dim"),
)


def location(context: typer.Context, path: PathArgument) -> None:
    """Shows each block of a file: offset and length in bytes, hosts, workers that hold all of it.

    isotach fs location /s3/table.parquet
    """
    session = session_of(context)
    with session.connect() as fs:
        found = fs.locations(path)
    if session.out.as_json:
        session.out.document({"path": path, "blocks": found})
        return
    rows = [
        (str(each.offset), str(each.length), ",".join(each.hosts) or "-", ",".join(each.workers) or "-")
        for each in found
    ]
    session.out.table(_COLUMNS, rows)
