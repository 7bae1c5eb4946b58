"""`isotach fs checksum`.

Owns: the choice of the algorithm and the loop over the bytes. Never: trusts a checksum stored somewhere.
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isotach.base.limits import STREAM_CHUNK_BYTES
from isotach.cli.arguments import PathsArgument
from isotach.cli.session import session_of

if TYPE_CHECKING:
    from isotach.client import FileSystem

Algorithm = Literal["md5", "sha256", "crc32c"]


def checksum(
    context: typer.Context,
    paths: PathsArgument,
    algorithm: Annotated[Algorithm, typer.Option("--algorithm", "-a", help="What to compute.")] = "md5",
) -> None:
    """Computes the checksum of files by reading them, in the form that `md5sum -c` takes.

    isotach fs checksum /s3/table.parquet
    isotach fs checksum --algorithm crc32c /a /b --json
    """
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                value = _digest(fs, path, algorithm)
                if session.out.as_json:
                    session.out.json_line({"path": path, "algorithm": algorithm, "checksum": value})
                else:
                    session.out.line(f"{value}  {session.out.path(path)}")
    session.finish()


def _digest(fs: "FileSystem", path: str, algorithm: Algorithm) -> str:
    update, result = _crc32c() if algorithm == "crc32c" else _hash(algorithm)
    buffer = memoryview(bytearray(STREAM_CHUNK_BYTES))
    with fs.open(path) as source:
        while size := source.readinto(buffer):
            update(buffer[:size])
    return result()


def _hash(algorithm: str) -> tuple[Callable[[memoryview], None], Callable[[], str]]:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    return digest.update, digest.hexdigest


def _crc32c() -> tuple[Callable[[memoryview], None], Callable[[], str]]:
    from isotach.blockstore.checksum import extend

    value = 0

    def update(data: memoryview) -> None:
        nonlocal value
        value = extend(value, data)

    return update, lambda: f"{value:08x}"
