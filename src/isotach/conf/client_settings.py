"""The section `client` of the configuration: one documented key per field, as in `settings`.

Owns: the keys of clients. Never: parses or looks anything up.
"""

from typing import Annotated, Final

import msgspec

from isotach.base.limits import (
    BLOCK_BYTES_DEFAULT,
    BLOCK_BYTES_MAX,
    CALL_DEADLINE_S,
    LONG_CALL_DEADLINE_S,
    PAGE_BYTES,
    RETRY_TOTAL_S,
)
from isotach.base.placement import PLACEMENTS, READ_PLACEMENTS
from isotach.base.types import ReadType, WriteType
from isotach.conf import defaults, kinds
from isotach.conf.keys import Key
from isotach.conf.units import format_duration, format_size

_DAY_S: Final = 86_400.0


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Clients: the Python library, the command line, mounts, gateways."""

    user: Annotated[
        str,
        Key(
            kinds.word("a user name"),
            "the login name",
            "Who a client says it is over TCP; on a Unix socket the kernel says.",
            defaults.user,
        ),
    ]
    read_type: Annotated[
        ReadType, Key(kinds.member_of(ReadType), ReadType.CACHE.value, "What a read leaves in the cache.")
    ]
    write_type: Annotated[
        WriteType,
        Key(kinds.member_of(WriteType), WriteType.CACHE_THROUGH.value, "Where a write has gone when close returns."),
    ]
    block_size: Annotated[
        int,
        Key(
            kinds.size(PAGE_BYTES, BLOCK_BYTES_MAX, multiple_of=PAGE_BYTES),
            format_size(BLOCK_BYTES_DEFAULT),
            "Block size of new files: the unit in which a file spreads over workers.",
        ),
    ]
    write_location_policy: Annotated[
        str,
        Key(
            kinds.choice(*PLACEMENTS),
            "LOCAL_FIRST",
            "Which worker takes the next block of a new file; the policy of the path goes before it.",
        ),
    ]
    write_location_host: Annotated[
        str | None,
        Key(
            kinds.optional(kinds.word("a host name or a worker id")),
            "none",
            "The host whose workers take what is written under SPECIFIC_HOST.",
        ),
    ]
    read_location_policy: Annotated[
        str,
        Key(
            kinds.choice(*READ_PLACEMENTS),
            "LOCAL_FIRST",
            "Which worker caches a file that no worker holds when it is first read; the policy of the path goes before "
            "it.",
        ),
    ]
    read_location_host: Annotated[
        str | None,
        Key(
            kinds.optional(kinds.word("a host name or a worker id")),
            "none",
            "The host whose workers cache what is first read under SPECIFIC_HOST.",
        ),
    ]
    read_hash_shards: Annotated[
        int,
        Key(
            kinds.integer(1, 1024, "workers"),
            "1",
            "Under HASH, how many workers may come to cache the same file: of these the nearest is asked.",
        ),
    ]
    locality: Annotated[
        str,
        Key(
            kinds.locality(),
            "none",
            "Where the client runs, in tiers from near to far: `node=a1,rack=r7,zone=eu-1`. Nearer workers go first. "
            "The node is the host unless it is named.",
        ),
    ]
    short_circuit: Annotated[
        bool, Key(kinds.boolean(), "true", "Whether files cached on this host are read through a passed descriptor.")
    ]
    direct_metadata: Annotated[
        bool,
        Key(
            kinds.boolean(),
            "true",
            "Whether a process of the servers' user (or root) on their host reads their stores itself, so that looking "
            "up a path and opening a cached file need no call. Needs `client.short_circuit`.",
        ),
    ]
    deadline: Annotated[
        float,
        Key(
            kinds.duration(0.01, LONG_CALL_DEADLINE_S),
            format_duration(CALL_DEADLINE_S),
            "How long one call may take, retries not counted.",
        ),
    ]
    retry_total: Annotated[
        float,
        Key(
            kinds.duration(0, _DAY_S),
            format_duration(RETRY_TOTAL_S),
            "How long a call that failed for want of a connection is tried again; 0 never tries again.",
        ),
    ]
    metadata_sync_interval: Annotated[
        float | None,
        Key(
            kinds.optional(kinds.duration(0, 3650 * _DAY_S, may_be_never=True)),
            "none",
            "Overrides the master's and the mount's interval for every call of this client.",
        ),
    ]
    host_key: Annotated[
        str | None,
        Key(
            kinds.optional(kinds.word("a key")),
            "none",
            "The `worker.host_key` of the workers that count as local; with none, the running kernel.",
        ),
    ]
