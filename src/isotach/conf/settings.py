"""The sections of the configuration: one frozen struct per component, each field a documented key.

Owns: every key with its type, range, default, unit and meaning; a field's annotation is the only place that declares
it, and the parser, `isotach config list` and the reference all read it there. Never: parses or looks anything up.

Sizes are bytes (int) and durations seconds (float; -1.0 is never), whatever unit the user wrote.
"""

from pathlib import Path
from typing import Annotated, Final

import msgspec

from isotach.base.limits import (
    ABSENT_PATH_TTL_S,
    BUFFER_BYTES,
    FETCH_BYTES,
    FETCH_THREADS,
    GIB,
    GRANT_LIFETIME_S,
    MIB,
    PAGE_BYTES,
    PERSIST_THREADS,
    READ_AHEAD_BYTES_MAX,
    SCRUB_BANDWIDTH,
    SCRUB_INTERVAL_S,
    UFS_REQUESTS_MAX,
    UFS_REQUESTS_PER_MOUNT,
)
from isotach.conf import defaults, kinds
from isotach.conf.client_settings import ClientSettings
from isotach.conf.fuse_settings import FuseSettings
from isotach.conf.keys import Key, NamedKey, keys_of
from isotach.conf.kinds import TierSpec
from isotach.conf.units import format_duration, format_size

_DAY_S: Final = 86_400.0
_PIB: Final = 1 << 50
DEFAULT_ORIGIN: Final = "default"


class MasterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The master: namespace, mounts, workers."""

    dir: Annotated[
        Path,
        Key(
            kinds.path(), "<dir>/master", "Folder of the metadata store; one master owns it.", defaults.in_dir("master")
        ),
    ]
    bind_host: Annotated[str, Key(kinds.word("a host name or IP address"), "127.0.0.1", "Address to listen on.")]
    port: Annotated[int, Key(kinds.port(), "19998", "Port for clients and workers.")]
    web_port: Annotated[int, Key(kinds.port(may_be_off=True), "19999", "Port of `/metrics` and `/healthz`.")]
    readers: Annotated[
        int,
        Key(
            kinds.integer(0, 256, "processes"),
            "cores - 1, at least 1",
            "Processes that answer reads; with 0 the writer process answers them itself.",
            defaults.readers,
        ),
    ]
    map_size: Annotated[
        int,
        Key(
            kinds.size(64 * MIB, _PIB, multiple_of=MIB),
            "64GiB",
            "The most that the metadata store may grow to: address space, not memory or disk taken in advance.",
        ),
    ]
    root_ufs: Annotated[
        str,
        Key(
            kinds.storage(),
            "<dir>/underFSStorage",
            "Under storage mounted at `/` when the namespace is first made.",
            defaults.root_ufs,
        ),
    ]
    umask: Annotated[int, Key(kinds.octal_mode(), "022", "Permission bits taken away from new files and directories.")]
    metadata_sync_interval: Annotated[
        float,
        Key(
            kinds.duration(0, 3650 * _DAY_S, may_be_never=True),
            "-1",
            "How old metadata of the under storage may get before it is asked again; 0 asks every time. A mount or "
            "a call may say otherwise.",
        ),
    ]
    absent_cache_ttl: Annotated[
        float,
        Key(
            kinds.duration(0, _DAY_S),
            format_duration(ABSENT_PATH_TTL_S),
            "How long it is believed that the under storage does not have a path.",
        ),
    ]
    worker_timeout: Annotated[
        float,
        Key(
            kinds.duration(1, _DAY_S),
            "30s",
            "Silence after which a worker counts as lost (in Alluxio: 5m); it re-registers when it comes back.",
        ),
    ]
    ttl_check_interval: Annotated[
        float,
        Key(
            kinds.duration(0.05, _DAY_S),
            "1s",
            "How often at least the clock is looked at for ended times to live; each acts when it ends.",
        ),
    ]
    pending_write_timeout: Annotated[
        float,
        Key(
            kinds.duration(1, 30 * _DAY_S),
            format_duration(GRANT_LIFETIME_S),
            "How long a file may stay half written with no word from its writer before it is given up.",
        ),
    ]
    persist_retry_initial: Annotated[
        float, Key(kinds.duration(0.01, 3600), "1s", "Pause before an asynchronous write is tried again; it doubles.")
    ]
    persist_retry_max: Annotated[
        float, Key(kinds.duration(0.01, _DAY_S), "1h", "The longest pause between two tries of an asynchronous write.")
    ]


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A worker: the cache of one node."""

    dir: Annotated[
        Path,
        Key(
            kinds.path(),
            "<dir>/worker",
            "Folder of the worker's own state; one worker owns it.",
            defaults.in_dir("worker"),
        ),
    ]
    bind_host: Annotated[str, Key(kinds.word("a host name or IP address"), "127.0.0.1", "Address to listen on.")]
    port: Annotated[int, Key(kinds.port(), "29999", "Port for reads and writes from other hosts.")]
    web_port: Annotated[int, Key(kinds.port(may_be_off=True), "30000", "Port of `/metrics` and `/healthz`.")]
    mem_dir: Annotated[
        Path,
        Key(
            kinds.path(),
            "<tmpfs>/isotach-<user>-<hash of worker.dir>",
            "Folder of the MEM tier, in a tmpfs (`/dev/shm`); on a system without one, `<worker.dir>/mem`.",
            defaults.mem_dir,
        ),
    ]
    mem_size: Annotated[
        int,
        Key(
            kinds.size(0, _PIB, share_of_ram=True, multiple_of=PAGE_BYTES),
            "25%, at most what is free in mem_dir",
            "Quota of the MEM tier; 0 for no MEM tier.",
            defaults.mem_size,
        ),
    ]
    tiers: Annotated[
        tuple[TierSpec, ...],
        Key(
            kinds.tiers(),
            "none",
            "Folders of the tiers under MEM, on disks. An alias given again adds a folder to that tier (MEM too).",
        ),
    ]
    eviction: Annotated[
        str,
        Key(
            kinds.choice("ADAPTIVE", "LRU", "LRFU", "S3FIFO", "SIEVE", "WTINYLFU", "EPOCH"),
            "ADAPTIVE",
            "What leaves a full tier first. `ADAPTIVE` weighs `WTINYLFU` (frequency, for hot sets and scans) against "
            "`EPOCH` (for training that reads all of a set again and again) by what each would have hit lately; the "
            "others are there to compare, and for those who know their reads.",
        ),
    ]
    fetch_threads: Annotated[
        int, Key(kinds.integer(1, 1024, "threads"), str(FETCH_THREADS), "Ranges read from under storages at once.")
    ]
    fetch_size: Annotated[
        int,
        Key(
            kinds.size(PAGE_BYTES, GIB, multiple_of=PAGE_BYTES),
            format_size(FETCH_BYTES),
            "Bytes asked of an under storage in one request.",
        ),
    ]
    buffer_memory: Annotated[
        int,
        Key(
            kinds.size(32 * MIB, 1 << 40, multiple_of=MIB),
            format_size(BUFFER_BYTES),
            "Memory that bytes on their way may take beside the cache: fetched ones that wait for slow readers, and "
            "written ones that wait for slow stores. Reading ahead stops first; then all get small pieces.",
        ),
    ]
    ufs_requests_per_mount: Annotated[
        int,
        Key(
            kinds.integer(1, UFS_REQUESTS_MAX, "requests"),
            str(UFS_REQUESTS_PER_MOUNT),
            "Requests that this worker has under way to one under storage at most; the mount option `requests` says "
            "otherwise for one mount.",
        ),
    ]
    ufs_bandwidth: Annotated[
        int,
        Key(
            kinds.size(0, _PIB),
            "0",
            "Bytes per second that this worker moves to and from all under storages together at most; 0 for no limit. "
            "The mount option `bandwidth` bounds one mount.",
        ),
    ]
    bypass: Annotated[
        str,
        Key(
            kinds.choice("auto", "off"),
            "auto",
            "Whether files in a tier that is measured to be much slower than their under storage are read from there.",
        ),
    ]
    scrub_bandwidth: Annotated[
        int,
        Key(
            kinds.size(0, _PIB),
            format_size(SCRUB_BANDWIDTH),
            "Bytes per second at most that the scrub reads of the cache, to find damaged pages before a reader does; 0 "
            "for no scrub.",
        ),
    ]
    scrub_interval: Annotated[
        float,
        Key(
            kinds.duration(1, 3650 * _DAY_S),
            format_duration(SCRUB_INTERVAL_S),
            "Time over which the scrub spreads one round over all that is cached.",
        ),
    ]
    read_ahead_max: Annotated[
        int,
        Key(
            kinds.size(0, 16 * GIB, multiple_of=PAGE_BYTES),
            format_size(READ_AHEAD_BYTES_MAX),
            "How far ahead of a sequential reader the worker fetches; 0 turns reading ahead off.",
        ),
    ]
    persist_threads: Annotated[
        int, Key(kinds.integer(1, 1024, "threads"), str(PERSIST_THREADS), "Files written to under storages at once.")
    ]
    heartbeat_interval: Annotated[
        float, Key(kinds.duration(0.05, 3600), "1s", "How often the worker tells the master that it lives.")
    ]
    locality: Annotated[
        str,
        Key(
            kinds.locality(),
            "none",
            "Where the worker runs, in tiers from near to far: `node=a1,rack=r7,zone=eu-1`. The node is the host "
            "unless it is named.",
        ),
    ]
    tier_high_watermark: Annotated[
        float,
        Key(
            kinds.share(0.01, 1),
            "0.95",
            "How full a folder of a tier may get before its coldest versions go down a tier, or are evicted from the "
            "last one, in the background.",
        ),
    ]
    tier_low_watermark: Annotated[
        float, Key(kinds.share(0, 1), "0.9", "How full a folder of a tier is when that background work stops.")
    ]
    move_bandwidth: Annotated[
        int, Key(kinds.size(0, _PIB), "0B", "Bytes per second that moves between tiers may copy; 0 for no limit.")
    ]

    host: Annotated[
        str | None,
        Key(
            kinds.optional(kinds.word("a host name")),
            "none",
            "The host name under which the worker registers; with none, the machine's. Several workers on one machine "
            "are called `worker-1`, `worker-2`, ... by `isotach start`.",
        ),
    ]
    host_key: Annotated[
        str | None,
        Key(
            kinds.optional(kinds.word("a key")),
            "none",
            "What decides whether a client is on the worker's host; with none, the running kernel. Give workers of "
            "one machine different keys to have them behave like machines apart.",
        ),
    ]
    public_address: Annotated[
        str | None,
        Key(
            kinds.optional(kinds.address()),
            "none",
            "Where other hosts reach the worker, when that is not `worker.bind_host` and its port: behind a proxy, in "
            "a container.",
        ),
    ]

    @property
    def all_tiers(self) -> tuple[TierSpec, ...]:
        """The folders of MEM (unless its quota is 0) and of the tiers under it, best first."""
        memory = (TierSpec("MEM", self.mem_dir, self.mem_size),) if self.mem_size else ()
        return memory + self.tiers


class SecuritySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may do what."""

    permission_enabled: Annotated[bool, Key(kinds.boolean(), "true", "Whether owners, groups and modes are checked.")]
    superuser: Annotated[
        str,
        Key(
            kinds.word("a user name"),
            "the login name",
            "The user whom nothing is refused: by default whoever starts the master.",
            defaults.user,
        ),
    ]
    supergroup: Annotated[
        str, Key(kinds.word("a group name"), "supergroup", "The group whose members nothing is refused.")
    ]
    cluster_secret_file: Annotated[
        Path | None,
        Key(
            kinds.optional(kinds.path()),
            "none",
            "File with the secret by which the processes of one cluster know each other over TCP; mode 0600.",
        ),
    ]


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Logs of every process."""

    level: Annotated[
        str, Key(kinds.choice("debug", "info", "warning", "error"), "info", "The least severe line that is written.")
    ]
    format: Annotated[
        str,
        Key(
            kinds.choice("auto", "json", "console"),
            "auto",
            "`json` is one object per line, `console` is for people; `auto` is `console` on a terminal only.",
        ),
    ]
    file: Annotated[
        Path | None, Key(kinds.optional(kinds.path()), "none", "File to append logs to instead of standard error.")
    ]


class SettingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One key as `isotach config list` shows it."""

    key: str
    value_text: str
    origin: str  # "default", "file PATH", "environment variable NAME" or "argument"
    unit: str
    default: str
    doc: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, resolved. Hand a component its own section, never the whole."""

    dir: Annotated[
        Path,
        Key(
            kinds.path(),
            "~/.isotach",
            "Folder of a standalone instance: metadata, worker state, address, default root under storage.",
            defaults.home_dir,
        ),
    ]
    address: Annotated[
        str | None,
        Key(
            kinds.optional(kinds.address()),
            "none",
            "The master that clients and workers connect to; with none, that of the standalone instance in `dir`.",
        ),
    ]
    master: MasterSettings
    worker: WorkerSettings
    client: ClientSettings
    fuse: FuseSettings
    security: SecuritySettings
    log: LogSettings
    rows: tuple[SettingRow, ...] = ()

    def origins(self) -> list[SettingRow]:
        """Every key with its value and where that came from, in documentation order."""
        return list(self.rows)

    def is_default(self, key: str) -> bool:
        """Whether nobody set `key` (`master.port`), so that another default may suit better. KeyError: no such key."""
        for row in self.rows:
            if row.key == key:
                return row.origin == DEFAULT_ORIGIN
        raise KeyError(key)


#: The sections of the file, in documentation order.
SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "master": MasterSettings,
    "worker": WorkerSettings,
    "client": ClientSettings,
    "fuse": FuseSettings,
    "security": SecuritySettings,
    "log": LogSettings,
}
#: Every key. A derived default sees only the keys before it.
KEYS: Final[tuple[NamedKey, ...]] = (
    *keys_of("", Settings),
    *(row for section, struct in SECTIONS.items() for row in keys_of(section, struct)),
)
