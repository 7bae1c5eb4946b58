"""Records to bytes and back.

Owns: the codecs of inodes and mounts. Never: decides where a record stands (`keys`).
"""

from functools import lru_cache
from typing import Final

import msgspec

from isotach.base.limits import MOUNTS_MAX
from isotach.base.types import Inode, Mount

_encoder: Final = msgspec.msgpack.Encoder()

encode_inode: Final = _encoder.encode
decode_inode: Final = msgspec.msgpack.Decoder(Inode).decode

encode_mount: Final = _encoder.encode


@lru_cache(maxsize=MOUNTS_MAX)
def decode_mount(raw: bytes) -> Mount:
    """Decoded once per content: every lookup asks for it."""
    return msgspec.msgpack.decode(raw, type=Mount)
