"""Records to bytes and back.

Owns: the codecs of inodes and mounts. Never: decides where a record stands (`keys`).
"""

from functools import lru_cache
from typing import Final

import msgspec

from isotach.base.limits import MOUNTS_MAX
from isotach.base.types import FileId, Inode, Mount, Version


class InodeHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The first fields of an `Inode`, for who looks at very many and needs no more: the rest is passed over."""

    id: FileId
    kind: int
    mode: int
    owner: str
    group: str
    length: int
    mtime_ns: int
    ctime_ns: int
    atime_ns: int
    version: Version
    block_size: int
    flags: int


_encoder: Final = msgspec.msgpack.Encoder()

encode_inode: Final = _encoder.encode
decode_inode: Final = msgspec.msgpack.Decoder(Inode).decode
decode_inode_head: Final = msgspec.msgpack.Decoder(InodeHead).decode

encode_mount: Final = _encoder.encode


@lru_cache(maxsize=MOUNTS_MAX)
def decode_mount(raw: bytes) -> Mount:
    """Decoded once per content: every lookup asks for it."""
    return msgspec.msgpack.decode(raw, type=Mount)
