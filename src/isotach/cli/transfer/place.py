"""Where bytes come from and go to: the namespace or the local file system, behind one small interface.

Owns: `Entry`, `Side`, and how a place is written on the command line. Never: copies.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.types import ReadBuffer

LOCAL_PREFIX: Final = "file:"


class Place(msgspec.Struct, frozen=True):
    """A path on one of the two sides."""

    path: str
    local: bool


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file or directory, as far as copying it goes."""

    path: str
    name: str
    is_dir: bool
    length: int  # bytes
    mode: int
    mtime: float  # seconds since the epoch
    copyable: bool = True  # False: neither a file nor a directory
    identity: tuple[int, int] | None = None  # tells one directory from another where links may lead in a circle


class Source(Protocol):
    """An open file to read."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class Target(Protocol):
    """An open file to write; nothing is visible before its context ends without an error."""

    def write(self, data: ReadBuffer, /) -> int: ...


class Side(Protocol):
    """The namespace, or the local file system."""

    def look(self, path: str) -> Entry:
        """Raises FileNotFoundError when there is nothing."""

    def children(self, path: str) -> Iterator[Entry]:
        """The entries of a directory, lazily."""

    def join(self, path: str, name: str) -> str: ...

    def make_directory(self, path: str) -> None:
        """With its parents; nothing happens if it is there."""

    def reading(self, path: str) -> AbstractContextManager[Source]: ...

    def writing(self, path: str, overwrite: bool) -> AbstractContextManager[Target]:
        """Raises FileExistsError, here or when the context ends, if the file exists and `overwrite` is False."""

    def write_whole(self, path: str, data: memoryview, overwrite: bool) -> None:
        """A small file at once."""

    def set_attributes(self, path: str, like: Entry) -> None:
        """Permission bits and time of modification."""

    def remove(self, path: str, recursive: bool) -> None: ...


def parse_place(text: str) -> Place:
    """`file:` marks a local path; anything else is in the namespace. Raises InvalidArgumentError for neither."""
    if text.startswith(LOCAL_PREFIX):
        path = text.removeprefix(LOCAL_PREFIX)
        path = path[2:] if path.startswith("///") else path
        if not path or path.startswith("//"):
            raise InvalidArgumentError(f"{text!r} names no local file: give file:PATH, for example file:./data.csv")
        return Place(path, local=True)
    if not text.startswith("/"):
        message = f"{text!r} is neither an absolute path of the namespace nor marked as local: give /PATH or file:PATH"
        raise InvalidArgumentError(message)
    return Place(text, local=False)


def base_name(path: str) -> str:
    """The last component, whatever slashes follow it."""
    return path.rstrip("/").rpartition("/")[2]
