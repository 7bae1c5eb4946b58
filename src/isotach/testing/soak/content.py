"""What soak clients write: bytes that say themselves who wrote them, which generation they are, and how many.

Owns: the header and the seeded body. Never: knows a path (files are renamed).

Any reader can tell from the bytes alone whether they are whole and whose they are, without asking the writer's model.
"""

import random
import struct
from typing import Final

import msgspec

_HEADER: Final = struct.Struct("<8sIIQ")
_MAGIC: Final = b"isosoak1"
SIZE_MIN: Final = _HEADER.size


class Stamp(msgspec.Struct, frozen=True):
    """Who wrote a content, the how manieth of that writer, and its size in bytes."""

    writer: int
    generation: int
    size: int


def content_of(stamp: Stamp) -> bytes:
    """The bytes: a function of the stamp alone."""
    head = _HEADER.pack(_MAGIC, stamp.writer, stamp.generation, stamp.size)
    body = random.Random((stamp.writer << 32) | stamp.generation).randbytes(stamp.size - SIZE_MIN)
    return head + body


def stamp_of(data: bytes) -> Stamp | None:
    """The stamp that the bytes begin with; None when they do not begin with one."""
    if len(data) < SIZE_MIN:
        return None
    magic, writer, generation, size = _HEADER.unpack_from(data)
    return Stamp(writer, generation, size) if magic == _MAGIC else None


def fault_of(data: bytes) -> str | None:
    """What is wrong with these bytes, or None: they are a whole content as some client wrote it."""
    stamp = stamp_of(data)
    if stamp is None:
        return f"{len(data)} bytes that no client wrote, beginning with {data[:16]!r}"
    if len(data) != stamp.size:
        return f"{len(data)} bytes of a content of {stamp.size} ({stamp})"
    good = content_of(stamp)
    if data == good:
        return None
    at = next(index for index, (one, other) in enumerate(zip(data, good, strict=True)) if one != other)
    return f"differs from {stamp} at byte {at}: {data[at : at + 8]!r} where {good[at : at + 8]!r} was written"
