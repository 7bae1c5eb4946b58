"""The catalogue of metrics: every name, kind, help text and label of master and worker.

Owns: the declarations. Never: counts. Full names are `isotach_<component>_<name>`, and `_total` follows a counter's.
Units are in the names: `_seconds`, `_bytes`; all else is a number of things.
"""

from typing import Final, Literal

import msgspec

MetricKind = Literal["counter", "gauge", "histogram"]

#: From 100 us (a commit on a fast disk) to 10 s.
SECONDS_BUCKETS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
BATCH_BUCKETS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)


class Declared(msgspec.Struct, frozen=True):
    """One metric."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Declared:
    return Declared(name, "counter", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Declared:
    return Declared(name, "gauge", text, labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Declared:
    return Declared(name, "histogram", text, labels, buckets)


MASTER: Final = (
    _counter("rpc_calls", "Calls answered, by method.", "method"),
    _counter("rpc_errors", "Calls answered with an error, by method and error code.", "method", "code"),
    _histogram("rpc_seconds", "Time from a call's arrival to its answer.", SECONDS_BUCKETS),
    _gauge("connections", "Open client and worker connections."),
    _counter("batches", "Batches committed to the metadata store."),
    _counter("mutations", "Mutations committed."),
    _counter("mutations_refused", "Mutations that their handler refused (not found, exists, permission, ...)."),
    _histogram("batch_mutations", "Mutations in one committed batch.", BATCH_BUCKETS),
    _histogram("commit_seconds", "Time that one commit took, with its fsync.", SECONDS_BUCKETS),
    _gauge("store_used_bytes", "Bytes that the metadata store holds."),
    _gauge("store_map_bytes", "Bytes that the metadata store may hold (master.map_size)."),
    _gauge("inodes", "Files and directories in the namespace."),
    _gauge("mounts", "Mounts, the root included."),
    _gauge("workers", "Workers, by state: live or lost.", "state"),
    _gauge("replication_waiting", "Files whose copies are to be looked at or are being made."),
    _counter("replications", "Copies made, taken away, or not made.", "outcome"),
    _counter("files_lost", "Files whose last copy went away before they were persisted."),
    _gauge("cache_capacity_bytes", "Capacity of all live workers, by tier.", "tier"),
    _gauge("cache_used_bytes", "Used bytes of all live workers, by tier.", "tier"),
    _gauge("persist_queue", "Files that wait for asynchronous persistence."),
    _counter("persist_done", "Files persisted asynchronously."),
    _counter("persist_failed", "Failed tries to persist a file asynchronously; each is tried again."),
    _counter("ufs_calls", "Calls to under storages, by operation.", "op"),
    _counter("ufs_errors", "Failed calls to under storages, by operation.", "op"),
    _histogram("ufs_seconds", "Time of one call to an under storage.", SECONDS_BUCKETS),
    _counter(
        "syncs", "Paths compared with their under storage, by outcome: same, changed, absent or failed.", "outcome"
    ),
    _counter("absent_hits", "Lookups answered from the cache of absent paths."),
    _counter("ttl_expired", "Files whose time to live ended, by action.", "action"),
    _gauge("jobs_running", "Loads and persistences that are being carried on with."),
    _counter("job_files", "Files that jobs were through with, by outcome: done, skipped, failed or unfit.", "outcome"),
    _gauge("change_listeners", "Mounts that wait for changes right now."),
    _counter("changes_sent", "Changes of entries told to mounts, each counted once per mount."),
    _counter("changes_missed", "Times that a mount was told that it had missed changes."),
    _gauge("locks", "Locks of programs (fcntl, flock) that are held, of all mounts."),
    _gauge("lock_sessions", "Mounts that use locks."),
    _gauge("lock_waiters", "Requests that wait for a lock."),
    _counter("lock_requests", "Requests for locks, by outcome: granted or refused.", "outcome"),
)

WORKER: Final = (
    _counter("read_bytes", "Bytes read, by where they came from: memory, disk, ufs or remote.", "source"),
    _counter(
        "written_bytes", "Bytes written, by tier; `through` for those that went only to the under storage.", "tier"
    ),
    _counter("page_hits", "Pages found in the cache."),
    _counter("page_misses", "Pages that had to be fetched."),
    _counter("evicted_files", "Containers evicted, by tier.", "tier"),
    _counter("evicted_bytes", "Bytes evicted, by tier.", "tier"),
    _counter("demoted_bytes", "Bytes moved to a lower tier, by the tier that they left.", "tier"),
    _counter("promoted_bytes", "Bytes moved to the top tier."),
    _gauge("capacity_bytes", "Quota, by tier.", "tier"),
    _gauge("used_bytes", "Used bytes, by tier.", "tier"),
    _gauge("failed_folders", "Folders out of service, by tier.", "tier"),
    _gauge("files", "File versions of which the cache holds some or all, by tier.", "tier"),
    _counter("descriptors_passed", "Descriptors passed to local clients."),
    _gauge("connections", "Open data connections."),
    _gauge("buffer_bytes", "Fetched bytes in memory, beside the cache, that wait for readers (worker.buffer_memory)."),
    _gauge("fetches_in_flight", "Ranges being read from under storages."),
    _counter("fetches", "Ranges read from under storages."),
    _counter("fetch_failures", "Ranges that an under storage failed to give."),
    _histogram("fetch_seconds", "Time of one ranged read from an under storage.", SECONDS_BUCKETS),
    _counter("read_ahead_bytes", "Bytes fetched before a reader asked for them."),
    _counter("crc_errors", "Pages whose checksum did not match, by tier; each is dropped and fetched again.", "tier"),
    _gauge("tiers_read_around", "1 for a tier that is slower than an under storage and is read around.", "tier"),
    _counter("bypassed_bytes", "Bytes that are cached and were read from the under storage, which is quicker."),
    _counter("scrubbed_bytes", "Bytes of the cache that the scrub has compared with their checksums."),
    _counter("scrub_rounds", "Rounds of the scrub over all that is cached."),
    _counter(
        "scrub_errors",
        "Damaged pages that the scrub found, by outcome: dropped (read again from elsewhere), repaired (from another "
        "worker), kept (of data that is nowhere else).",
        "outcome",
    ),
    _counter("transfer_crc_errors", "Ranges that came from another worker with a wrong checksum; each is read again."),
    _counter("shared_bytes", "Bytes of the cache given to other workers."),
    _counter("full_fallbacks", "Reads and writes that went past the cache because it was full."),
    _gauge("drafts_open", "Files being written through mounts of this host, as drafts."),
    _counter("drafts_published", "Contents that mounts published from drafts."),
    _counter("drafts_salvaged", "Synced drafts of dead mounts or of an earlier process that were published."),
    _counter("drafts_dropped", "Drafts of dead mounts that were not synced, and were dropped."),
    _counter("drafts_moved", "Drafts that moved to another tier because theirs was full."),
    _counter("persist_done", "Files persisted to an under storage."),
    _counter("persist_failed", "Failed tries to persist a file."),
    _counter("heartbeats", "Heartbeats answered by the master."),
    _counter("heartbeat_failures", "Heartbeats that the master did not answer."),
)

CATALOGUE: Final[dict[str, tuple[Declared, ...]]] = {"master": MASTER, "worker": WORKER}
