"""The key scheme of the namespace (format 1), specified in `docs/format/namespace.md`.

Owns: how every row is named. Never: reads or writes rows. Integers are big-endian, so that byte order is number order.

    e + directory id (8) + name     -> msgpack Inode: a child's whole record stands in its directory, so that a listing
                                       is one scan and a lookup one get per component; the root is `e` + 0 + ""
    i + inode id (8)                -> directory id (8) + name: where the record stands
    h + file id (8) + number (8)    -> directory id (8) + name: the names of a file with several, the first one first;
                                       its record stands under `e` + 2 + id, and each name holds a stub of kind 7
    m + mount id (8)                -> msgpack Mount
    n + intent id (8)               -> msgpack Intent
    q + mount id (8) + due, ms (8) + file id (8)
                                    -> attempts (4): the persistence queue, of each mount in order of time
    p + file id (8)                 -> due, ms (8) + attempts (4) + mount id (8): the same by file
    v + slot (2)                    -> version (8): the latest versions that were completed, in a ring
    t + inode id (8)                -> msgpack Inode: the top of a detached tree that waits for reclaim
    x + expiry, ms (8) + id (8)     -> empty: times to live
    j + job id (8)                  -> msgpack JobRecord: jobs, with how far each is
    l + file id (8)                 -> msgpack LostRecord: files whose last copy is gone
    r + file id (8)                 -> empty: files whose policy says how many workers hold them
    d + worker id                   -> msgpack Leaving: workers that are, or have been, decommissioned
    s + session (16)                -> empty: mounts that hold locks, and are waited for after a restart
    c + name                        -> number (8): counters and high-water marks
"""

from typing import Final

FORMAT_VERSION: Final = 1

INODES: Final = b"cinodes"
IDS: Final = b"cids"
MOUNTS_EPOCH: Final = b"cmounts_epoch"
PERSIST_LENGTH: Final = b"cpersist_queue"
DETACHED: Final = b"cdetached"

_NUMBER_MAX: Final = (1 << 64) - 1


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def entry(directory_id: int, name: bytes) -> bytes:
    return b"e" + directory_id.to_bytes(8, "big") + name


def entries_after(directory_id: int, start_after: bytes) -> tuple[bytes, bytes]:
    """The range of a directory's entries with names above `start_after` (all, when it is empty)."""
    prefix = b"e" + directory_id.to_bytes(8, "big")
    return prefix + start_after + b"\0" if start_after else prefix, b"e" + (directory_id + 1).to_bytes(8, "big")


ENTRY_PREFIX_BYTES: Final = 9


def location(inode_id: int) -> bytes:
    return b"i" + inode_id.to_bytes(8, "big")


def name_of_link(inode_id: int, number_of_link: int) -> bytes:
    return b"h" + inode_id.to_bytes(8, "big") + number_of_link.to_bytes(8, "big")


def mount(mount_id: int) -> bytes:
    return b"m" + mount_id.to_bytes(8, "big")


def intent(intent_id: int) -> bytes:
    return b"n" + intent_id.to_bytes(8, "big")


def persist_due(mount_id: int, due_ms: int, file_id: int) -> bytes:
    return b"q" + number(mount_id) + number(max(due_ms, 0)) + number(file_id)


def persist_lane(mount_id: int) -> tuple[bytes, bytes]:
    """The range of all that waits for one mount."""
    return b"q" + number(mount_id), b"q" + number(mount_id + 1)


def completed(slot: int) -> bytes:
    return b"v" + slot.to_bytes(2, "big")


def persist_item(file_id: int) -> bytes:
    return b"p" + file_id.to_bytes(8, "big")


def detached(inode_id: int) -> bytes:
    return b"t" + inode_id.to_bytes(8, "big")


def expiry(expires_ms: int, inode_id: int) -> bytes:
    return b"x" + max(expires_ms, 0).to_bytes(8, "big") + inode_id.to_bytes(8, "big")


def lost(file_id: int) -> bytes:
    return b"l" + file_id.to_bytes(8, "big")


def replicated(file_id: int) -> bytes:
    return b"r" + file_id.to_bytes(8, "big")


def job(job_id: int) -> bytes:
    return b"j" + job_id.to_bytes(8, "big")


def leaving(worker_id: str) -> bytes:
    return b"d" + worker_id.encode()


def lock_session(session: bytes) -> bytes:
    return b"s" + session


def all_of(prefix: bytes) -> tuple[bytes, bytes]:
    """The range of all rows of one kind."""
    return prefix, bytes([prefix[0] + 1])


def up_to(prefix: bytes, time_ms: int) -> tuple[bytes, bytes]:
    """The range of time-ordered rows due at `time_ms` or before."""
    return prefix, prefix + min(max(time_ms + 1, 0), _NUMBER_MAX).to_bytes(8, "big")
