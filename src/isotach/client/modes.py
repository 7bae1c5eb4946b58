"""The mode argument of `open`: pure.

Owns: which modes there are, and what to say about the others. Never: opens anything.
"""

import errno
import functools

import msgspec

from isotach.base.errors import InvalidArgumentError, os_error


class OpenMode(msgspec.Struct, frozen=True):
    """What a mode asks for."""

    writes: bool
    exclusive: bool  # the file must not exist
    text: bool


@functools.lru_cache(64)
def parse_mode(mode: str) -> OpenMode:
    """r, w or x, with b or t. Raises InvalidArgumentError for nonsense, OSError (ENOTSUP) for a and +."""
    letters = set(mode)
    if letters & set("a+"):
        message = "files are immutable once complete: no appending or updating in place; write the whole file with 'wb'"
        raise os_error(errno.ENOTSUP, f"the mode {mode!r} is not supported: {message}")
    actions = letters & set("rwx")
    if len(letters) != len(mode) or len(actions) != 1 or letters - set("rwxbt") or letters >= set("bt"):
        raise InvalidArgumentError(f"{mode!r} is no mode: give one of rb, wb, xb, r, w, x")
    return OpenMode("r" not in letters, "x" in letters, "b" not in letters)
