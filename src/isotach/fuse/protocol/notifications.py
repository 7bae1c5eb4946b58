"""Encodes what a daemon tells the kernel unasked: header and payload, ready to be written.

Owns: the messages of FUSE_NOTIFY_*. Never: writes them (`kernel.notify`) or knows whether the kernel understands them.
"""

from collections.abc import Sequence

from isotach.base.types import ReadBuffer
from isotach.fuse.protocol import layouts
from isotach.fuse.protocol.constants import Notify


def _message(code: Notify, *parts: ReadBuffer) -> bytes:
    payload = b"".join(parts)
    return layouts.OUT_HEADER.pack(layouts.OUT_HEADER.size + len(payload), code, 0) + payload


def inval_inode(node: int, offset: int, length: int) -> bytes:
    """`offset` below 0: attributes only; `length` 0 or below: to the end."""
    return _message(Notify.INVAL_INODE, layouts.INVAL_INODE.pack(node, offset, length))


def inval_entry(parent: int, name: bytes, flags: int = 0) -> bytes:
    return _message(Notify.INVAL_ENTRY, layouts.INVAL_ENTRY.pack(parent, len(name), flags), name, b"\0")


def delete(parent: int, child: int, name: bytes) -> bytes:
    return _message(Notify.DELETE, layouts.DELETE.pack(parent, child, len(name)), name, b"\0")


def store(node: int, offset: int, data: ReadBuffer) -> bytes:
    """Puts bytes into the kernel's page cache."""
    return _message(Notify.STORE, layouts.STORE.pack(node, offset, len(data)), data)


def retrieve(notify_unique: int, node: int, offset: int, size: int) -> bytes:
    """Asks for bytes of the kernel's page cache: NOTIFY_REPLY brings them."""
    return _message(Notify.RETRIEVE, layouts.RETRIEVE.pack(notify_unique, node, offset, size))


def poll_wakeup(kernel_handle: int) -> bytes:
    return _message(Notify.POLL, layouts.POLL_WAKEUP.pack(kernel_handle))


def resend() -> bytes:
    """All requests that were read and not answered are to be sent again (Linux 6.9), with UNIQUE_RESEND set."""
    return _message(Notify.RESEND)


def inc_epoch() -> bytes:
    """Every name that the kernel knows is to be looked up again (Linux 6.16)."""
    return _message(Notify.INC_EPOCH)


def prune(nodes: Sequence[int]) -> bytes:
    """The kernel may forget these nodes if nobody uses them (Linux 6.18)."""
    listed = b"".join([node.to_bytes(8, "little") for node in nodes])
    return _message(Notify.PRUNE, layouts.PRUNE.pack(len(nodes)), listed)
