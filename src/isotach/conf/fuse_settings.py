"""The section `fuse` of the configuration: one documented key per field, as in `settings`.

Owns: the keys of mounts. Never: parses or looks anything up.
"""

from typing import Annotated, Final

import msgspec

from isotach.base.limits import GIB, KIB, MIB, PAGE_BYTES
from isotach.base.types import WriteType
from isotach.conf import kinds
from isotach.conf.keys import Key

_DAY_S: Final = 86_400.0


class FuseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Mounts of the namespace as a folder (`isotach fuse mount`)."""

    write_type: Annotated[
        WriteType | None,
        Key(
            kinds.optional(kinds.member_of(WriteType)),
            "none",
            "Where what is written through a mount has gone when close returns; with none, `client.write_type`.",
        ),
    ]
    training: Annotated[
        bool,
        Key(
            kinds.boolean(),
            "false",
            "Read-only mounts in which open and close do not reach the daemon and the kernel's page cache is the "
            "memory: for data that does not change while it is mounted.",
        ),
    ]
    passthrough: Annotated[
        str,
        Key(
            kinds.choice("auto", "off"),
            "auto",
            "Whether the kernel reads files that are whole in the local cache itself, where it can.",
        ),
    ]
    write_passthrough: Annotated[
        str,
        Key(
            kinds.choice("auto", "on", "off"),
            "off",
            "Whether the kernel writes new files into the cache itself: experimental. `auto`: only into a tier whose "
            "file system ends where the tier does, as nobody counts the bytes on their way. Such files are published "
            "after the last close, not by it.",
        ),
    ]
    attr_timeout: Annotated[
        float, Key(kinds.duration(0, _DAY_S), "1h", "How long the kernel keeps attributes; changes end it at once.")
    ]
    entry_timeout: Annotated[
        float, Key(kinds.duration(0, _DAY_S), "1h", "How long the kernel keeps names; changes end it at once.")
    ]
    negative_timeout: Annotated[
        float, Key(kinds.duration(0, _DAY_S), "10s", "How long the kernel keeps that a name is not there.")
    ]
    server_timeout: Annotated[
        float,
        Key(
            kinds.duration(0, _DAY_S),
            "30s",
            "How long a call on the mount waits for a master or worker that is away, before it fails with EIO.",
        ),
    ]
    locks: Annotated[
        str,
        Key(
            kinds.choice("cluster", "local"),
            "cluster",
            "Whether fcntl and flock locks hold across all mounts, or only among the programs of one.",
        ),
    ]
    threads: Annotated[
        int,
        Key(
            kinds.integer(1, 64, "threads"),
            "1",
            "Threads that read requests of the kernel. A single one looks for the next request before it sleeps, which "
            "pays more than others that it would have to wake.",
        ),
    ]
    slow_threads: Annotated[
        int, Key(kinds.integer(4, 1024, "threads"), "32", "Threads for requests that wait, of each kind.")
    ]
    max_background: Annotated[
        int, Key(kinds.integer(1, 65_535, "requests"), "64", "Read-ahead and write-back requests under way at once.")
    ]
    read_ahead: Annotated[
        int, Key(kinds.size(0, GIB), "1MiB", "How far the kernel reads ahead of a sequential reader.")
    ]
    buffer_memory: Annotated[
        int,
        Key(kinds.size(16 * MIB, 1024 * GIB, multiple_of=MIB), "256MiB", "Bytes that the daemon may hold, all files."),
    ]
    small_file: Annotated[
        int,
        Key(
            kinds.size(0, 4 * MIB, multiple_of=KIB),
            "1MiB",
            "New files are held in the daemon's memory up to this size, and sent whole when they are closed.",
        ),
    ]
    copy_ahead: Annotated[
        int,
        Key(
            kinds.size(0, 1024 * GIB, multiple_of=PAGE_BYTES),
            "64MiB",
            "Files up to this size are copied as a whole when part of them is first written; of larger ones only what "
            "is missing when they are published.",
        ),
    ]
