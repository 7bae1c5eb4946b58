"""`isotach fs checksum`.

Owns: the choice of the algorithm, the loop over the bytes, and how a comparison of copies is told. Never: trusts a
checksum stored somewhere.
"""

import errno
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from isotach.base.errors import DataCorruptionError
from isotach.base.limits import STREAM_CHUNK_BYTES
from isotach.cli.arguments import PathsArgument
from isotach.cli.session import session_of

if TYPE_CHECKING:
    from isotach.cli.session import Session
    from isotach.client import FileSystem
    from isotach.client.copies import Copy

Algorithm = Literal["md5", "sha256", "crc32c"]


def checksum(
    context: typer.Context,
    paths: PathsArgument,
    algorithm: Annotated[Algorithm, typer.Option("--algorithm", "-a", help="What to compute.")] = "md5",
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Has every worker that holds the file, and the under storage, read it anew, and says whether all "
            "copies are equal (CRC32C).",
        ),
    ] = False,
) -> None:
    """Computes the checksum of files by reading them, in the form that `md5sum -c` takes.

    isotach fs checksum /s3/table.parquet
    isotach fs checksum --algorithm crc32c /a /b --json
    isotach fs checksum --compare /s3/table.parquet
    """
    session = session_of(context)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                if compare:
                    _compare(session, fs, path)
                    continue
                value = _digest(fs, path, algorithm)
                if session.out.as_json:
                    session.out.json_line({"path": path, "algorithm": algorithm, "checksum": value})
                else:
                    session.out.line(f"{value}  {session.out.path(path)}")
    session.finish()


def _compare(session: "Session", fs: "FileSystem", path: str) -> None:
    """Raises DataCorruptionError when copies differ, so that the command fails."""
    from isotach.client.copies import compare_copies

    found = compare_copies(fs, path)
    if session.out.as_json:
        rows = [
            {**msgspec.to_builtins(copy), "crc32c": None if copy.crc32c is None else f"{copy.crc32c:08x}"}
            for copy in found.copies
        ]
        session.out.json_line({"path": path, "length": found.length, "equal": found.agree, "copies": rows})
    else:
        for copy in found.copies:
            session.out.line(f"{_told(copy, found.length)}  {copy.where}  {session.out.path(path)}")
        if not found.copies:
            session.out.line(f"no copy of any byte  {session.out.path(path)}")
    if not found.agree:
        raise DataCorruptionError(
            errno.EIO, "its copies differ: free it, so that it is read again from its store", path
        )
    unread = [copy.where for copy in found.copies if copy.error]
    if unread:
        raise OSError(errno.EIO, f"nothing is known of {', '.join(unread)}: try again when it answers", path)


def _told(copy: "Copy", length: int) -> str:
    if copy.error:
        return f"unknown ({copy.error})"
    if copy.bad_pages:
        return f"damaged: {copy.bad_pages} pages"
    if copy.crc32c is None:
        return f"{copy.present_bytes} of {length} bytes"
    return f"{copy.crc32c:08x}"


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
