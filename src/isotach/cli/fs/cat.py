"""`isotach fs cat`.

Owns: nothing but the loop. Never: decodes: bytes leave as they are stored.
"""

import typer

from isotach.base.limits import STREAM_CHUNK_BYTES
from isotach.cli.arguments import PathsArgument
from isotach.cli.session import session_of


def cat(context: typer.Context, paths: PathsArgument) -> None:
    """Writes files to standard output.

    isotach fs cat /s3/table.csv | head
    """
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure(), fs.open(path) as source:
                buffer = memoryview(bytearray(STREAM_CHUNK_BYTES))
                while count := source.readinto(buffer):
                    session.out.raw(buffer[:count])
    session.finish()
