"""The page index of one tier: what its containers hold, as rows of a key-value store.

Owns: the format of the rows (`docs/format/blockstore.md`) and their batches. Never: touches a container, and never
infers presence from holes: a page is present when its row says so.

    h + version (8 bytes, big endian)              header, a msgpack array (`Header`)
    p + version (8) + chunk number (4, big endian) presence of 64 pages (u64 bitmap), then their 64 CRC32C (u32 each),
                                                   little endian
    i                                              incarnation: 8 random bytes, new with each opening by a worker
    c                                              stamp of the cluster whose folder this is (`ownership`)
"""

import itertools
import struct
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from isotach.base.limits import PAGES_PER_INDEX_CHUNK
from isotach.base.types import FileId, Version
from isotach.blockstore.pages import PageTable, page_count
from isotach.kv.interface import Batch, KeyValueStore, Snapshot

FORMAT_VERSION: Final = 1
_HEADER: Final = b"h"
_PAGES: Final = b"p"
INCARNATION_KEY: Final = b"i"
CLUSTER_KEY: Final = b"c"
_ALL: Final = (1 << PAGES_PER_INDEX_CHUNK) - 1
_CHUNK: Final = struct.Struct(f"<Q{PAGES_PER_INDEX_CHUNK}I")
_VERSION: Final = struct.Struct(">Q")
_CHUNK_KEY: Final = struct.Struct(">QI")


class Header(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One version in one tier. Fields are only ever appended."""

    file_id: FileId
    length: int  # bytes
    block_bytes: int
    fingerprint: str | None
    complete: bool  # every page is present
    dirty: bool  # the under storage does not hold it: never evicted
    pinned: bool
    spread: bool = False  # other workers hold blocks of it too, and one of them completes it
    incarnation: bytes = b""  # of the worker that wrote the version, or compared it with its checksums, last
    tier: str = ""  # the alias of the tier that it is to stand in; empty: any
    memory_only: bool = False  # must never be on a disk
    stored_bytes: int = -1  # on the file system, of a file with holes; -1: as many as the length says


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Header)


def header_row(version: Version, header: Header) -> tuple[bytes, bytes]:
    """The row that says what this version is."""
    return _HEADER + _VERSION.pack(version), _encoder.encode(header)


def may_be_opened(get: Callable[[bytes], bytes | None], version: Version, length: int, cluster: bytes) -> bool:
    """For readers beside the worker: whether the version is complete here, has that length, and was written or verified
    in the present incarnation, by a worker of the cluster with that stamp: a number says nothing without its cluster.
    To be asked of a snapshot taken after the container was opened and locked."""
    raw = get(_HEADER + _VERSION.pack(version))
    if raw is None:
        return False
    header = _decoder.decode(raw)
    return (
        header.complete
        and header.length == length
        and header.incarnation != b""
        and header.incarnation == get(INCARNATION_KEY)
        and get(CLUSTER_KEY) == cluster
    )


def page_rows(version: Version, pages: PageTable, first: int, stop: int) -> Batch:
    """The rows of the chunks that the pages of [first, stop) fall into, as they stand now."""
    width = PAGES_PER_INDEX_CHUNK
    rows: Batch = []
    for chunk in range(first // width, (stop + width - 1) // width):
        marks = bytes(pages.marks[chunk * width : (chunk + 1) * width])
        bits = _bits(marks)
        crcs = pages.crcs[chunk * width : (chunk + 1) * width]
        padding = (0,) * (width - len(crcs))
        rows.append((_PAGES + _CHUNK_KEY.pack(version, chunk), _CHUNK.pack(bits, *crcs, *padding)))
    return rows


def removal_rows(version: Version, length: int) -> Batch:
    """What deletes every row of the version."""
    width = PAGES_PER_INDEX_CHUNK
    chunks = (page_count(length) + width - 1) // width
    rows: Batch = [(_HEADER + _VERSION.pack(version), None)]
    rows.extend((_PAGES + _CHUNK_KEY.pack(version, chunk), None) for chunk in range(chunks))
    return rows


def page_rows_as_stored(snapshot: Snapshot, version: Version) -> Batch:
    """The rows of the version's pages, not decoded: what a move takes along."""
    prefix = _PAGES + _VERSION.pack(version)
    return list(snapshot.scan(prefix, _PAGES + _VERSION.pack(version + 1)))


def load_headers(snapshot: Snapshot) -> Iterator[tuple[Version, Header]]:
    """Every version, in order of version."""
    for key, value in snapshot.scan(_HEADER, _after(_HEADER)):
        yield _VERSION.unpack_from(key, 1)[0], _decoder.decode(value)


def version_keys(snapshot: Snapshot, count: int) -> list[bytes]:
    """The keys of up to `count` rows that speak of versions."""
    rows = itertools.chain(snapshot.scan(_HEADER, _after(_HEADER)), snapshot.scan(_PAGES, _after(_PAGES)))
    return [key for key, _ in itertools.islice(rows, count)]


def load_pages(store: KeyValueStore, version: Version, length: int) -> PageTable:
    """Presence and checksums of one version."""
    table = PageTable(page_count(length))
    with store.snapshot() as snapshot:
        prefix = _PAGES + _VERSION.pack(version)
        for key, value in snapshot.scan(prefix, _PAGES + _VERSION.pack(version + 1)):
            _load_chunk(table, _CHUNK_KEY.unpack_from(key, 1)[1], value)
    return table


def _load_chunk(table: PageTable, chunk: int, value: bytes) -> None:
    bits, *crcs = _CHUNK.unpack(value)
    start = chunk * PAGES_PER_INDEX_CHUNK
    if bits == _ALL and start + PAGES_PER_INDEX_CHUNK <= len(table):
        table.add(start, crcs)
        return
    for place in range(min(PAGES_PER_INDEX_CHUNK, len(table) - start)):
        if bits >> place & 1:
            table.add(start + place, (crcs[place],))


def _bits(marks: bytes) -> int:
    """The bitmap of marks: bit i is set where marks[i] is 1."""
    text = marks[::-1].translate(_DIGITS)
    return int(text, 2) if text else 0


def _after(prefix: bytes) -> bytes:
    return bytes((prefix[0] + 1,))


#: Marks 0 and 1 as the digits that `int` reads.
_DIGITS: Final = b"01" + bytes(range(2, 256))
