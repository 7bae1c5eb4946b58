"""Calls of workers to the master: who they are, what they hold, what they are to do; and of people about workers.

Owns: the requests and replies. Never: encodes them (`frames.py`) or numbers them (`messages.py`). Paths are canonical
bytes; durations are ms, sizes bytes, times ns since the epoch.
"""

import msgspec

from isotach.base.types import FileId, Mount, TierInfo, Version, WorkerId
from isotach.wire.message_base import Message
from isotach.wire.messages_namespace_reads import WorkerRow


class RegisterRequest(Message, frozen=True):
    """`proof` is the keyed BLAKE2b of worker_id and address under the cluster secret. `incarnation` is another one in
    every process of this worker: what an earlier one had begun is over."""

    worker_id: WorkerId
    host: str
    address: str
    local_socket: str
    host_key: str
    tiers: list[TierInfo]
    proof: bytes
    incarnation: str = ""
    locality: list[tuple[str, str]] = []  # nearest first, as in `WorkerInfo`
    versions: int = 0  # how many it is about to report
    sequence: int = -1  # of the last report that was answered, when all is reported; -1: not all is


class RegisterReply(Message, frozen=True):
    heartbeat_ms: int
    mounts: list[Mount]  # with secrets
    mounts_epoch: int
    report_all: bool = True  # False: the master still knows what the worker had told up to its `sequence`


class HeartbeatRequest(Message, frozen=True):
    worker_id: WorkerId
    tiers: list[TierInfo]
    versions: int = 0
    hot: list[Version] = []  # opened from other hosts so often lately that one more copy would do good


class HeartbeatReply(Message, frozen=True):
    """`known` False: register and report all again. A `mounts_epoch` other than the last seen: fetch the mounts."""

    known: bool
    mounts_epoch: int


class WorkerMountsRequest(Message, frozen=True):
    worker_id: WorkerId
    proof: bytes


class WorkerMountsReply(Message, frozen=True):
    mounts: list[Mount]
    mounts_epoch: int


class ReportedVersion(Message, frozen=True):
    version: Version
    file_id: FileId
    length: int
    block_size: int
    memory_bytes: int
    cached_bytes: int
    blocks: bytes
    dirty: bool = False  # not persisted
    former: bool = False  # found by this process when it started: nobody will complete it any more


_NO_ROWS = msgspec.Raw(b"\x90")


class ReportRequest(Message, frozen=True):
    """What changed in a worker's cache, or a page of a report of everything: the first of those has `first`, the last
    `last`, and each tells of every version in `span` (from, up to but without), so that what stands in that range and
    not in the page is gone. A `first` without a span is the whole report.

    `changed` is an array of `ReportedVersion`, left undecoded: the master decodes it beside its event loop. `sequence`
    counts the reports of one process."""

    worker_id: WorkerId
    changed: msgspec.Raw = _NO_ROWS
    removed: list[Version] = []
    first: bool = False
    last: bool = False
    span: tuple[Version, Version] | None = None
    sequence: int = 0


class ReportReply(Message, frozen=True):
    """Versions that no longer exist in the namespace: the worker drops them."""

    obsolete: list[Version] = []


class PollRequest(Message, frozen=True):
    """Waits (long poll) for commands."""

    worker_id: WorkerId
    wait_ms: int = 10_000
    done: list["CommandResult"] = []


class Command(Message, frozen=True):
    """One thing a worker must do. kind: FREE (drop the cached pages of `version`; `force` even when dirty because the
    file is gone), PERSIST, MARK_PERSISTED, PIN (to `tier`, if given), UNPIN, LOAD (from `holders`, else the under
    storage), REPLICATE (LOAD from `holders`; `dirty`: the copy must not be evicted, for it is not persisted)."""

    command_id: int
    kind: str
    version: Version
    grant: bytes = b""
    force: bool = False
    holders: list["WorkerRow"] = []
    fingerprint: str | None = None
    tier: str = ""
    dirty: bool = False
    bandwidth: int = 0  # bytes per second at most for what the command moves; 0: no limit


class CommandResult(Message, frozen=True):
    command_id: int
    ok: bool
    error: str = ""
    store_trouble: bool = False  # the under storage failed as a whole: another file would meet the same
    cached_bytes: int = -1  # of LOAD: what is here now, less than the file where there was no room; -1: not said


class PollReply(Message, frozen=True):
    commands: list[Command]


class DecommissionRequest(Message, frozen=True):
    """About one worker (its id) or all of a host: `action` START, CANCEL, or ASK for how far it is."""

    worker: str
    action: str = "ASK"


class Leaver(Message, frozen=True):
    """How far a worker is. `files_left` and `bytes_left` are only there, or not often enough elsewhere."""

    worker_id: WorkerId
    host: str
    state: str  # a `WorkerState`
    files_left: int = 0
    bytes_left: int = 0
    problem: str = ""  # why it does not get on; empty: it does


class DecommissionReply(Message, frozen=True):
    leavers: list[Leaver]
