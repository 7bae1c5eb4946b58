"""`isotach fs head` and `isotach fs tail`: the ends of a file.

Owns: finding where the last lines start. Never: reads more than it shows, but for one block before the last lines.
"""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import KIB, MIB
from isotach.cli.arguments import PathArgument
from isotach.cli.session import session_of

if TYPE_CHECKING:
    from isotach.client import FileSystem

BYTES_DEFAULT: Final = KIB
#: How far `tail -n` looks back at a time.
LOOK_BACK_BYTES: Final = 64 * KIB
CHUNK_BYTES: Final = MIB

BytesOption = Annotated[
    str | None,
    typer.Option(
        "-c", "--bytes", metavar="SIZE", help="How much: 100, 64KiB, 1MiB. Default: 1KiB.", show_default=False
    ),
]
LinesOption = Annotated[
    int | None, typer.Option("-n", "--lines", metavar="N", help="How many lines instead.", min=0, show_default=False)
]


def head(context: typer.Context, path: PathArgument, count: BytesOption = None, lines: LinesOption = None) -> None:
    """Prints the first bytes (1 KiB unless told) or lines of a file.

    isotach fs head -c 64 /s3/table.parquet
    isotach fs head -n 10 /s3/table.csv
    """
    session = session_of(context)
    left = _size(count, lines)
    with session.connect() as fs, fs.open(path) as source:
        if lines is not None:
            for _ in range(lines):
                line = source.readline()
                if not line:
                    break
                session.out.raw(line)
            return
        while left and (chunk := source.read(min(left, CHUNK_BYTES))):
            session.out.raw(chunk)
            left -= len(chunk)


def tail(context: typer.Context, path: PathArgument, count: BytesOption = None, lines: LinesOption = None) -> None:
    """Prints the last bytes (1 KiB unless told) or lines of a file.

    isotach fs tail -c 100 /logs/today
    isotach fs tail -n 20 /logs/today
    """
    session = session_of(context)
    size = _size(count, lines)
    with session.connect() as fs:
        length = fs.stat(path).length
        start = max(0, length - size) if lines is None else _start_of_lines(fs, path, length, lines)
        with fs.open(path) as source:
            source.seek(start)
            while chunk := source.read(CHUNK_BYTES):
                session.out.raw(chunk)


def _size(count: str | None, lines: int | None) -> int:
    from isotach.conf.units import parse_size

    if count is not None and lines is not None:
        raise InvalidArgumentError("-c and -n exclude each other: give one of them")
    return BYTES_DEFAULT if count is None else parse_size(count)


def _start_of_lines(fs: "FileSystem", path: str, length: int, lines: int) -> int:
    """The offset at which the last `lines` lines start."""
    if not lines:
        return length
    end, wanted = length, lines
    while end > 0:
        start = max(0, end - LOOK_BACK_BYTES)
        block = fs.read(path, start, end - start)
        # The newline that ends the file ends its last line, and starts none.
        position = len(block) - 1 if end == length and block.endswith(b"\n") else len(block)
        while (position := block.rfind(b"\n", 0, position)) >= 0:
            wanted -= 1
            if not wanted:
                return start + position + 1
        end = start
    return 0
