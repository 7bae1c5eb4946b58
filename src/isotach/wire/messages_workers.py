"""Calls of workers to the master: who they are, what they hold, what they are to do.

Owns: the requests and replies. Never: encodes them (`frames.py`) or numbers them (`messages.py`). Paths are canonical
bytes; durations are ms, sizes bytes, times ns since the epoch.
"""

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


class RegisterReply(Message, frozen=True):
    heartbeat_ms: int
    mounts: list[Mount]  # with secrets
    mounts_epoch: int


class HeartbeatRequest(Message, frozen=True):
    worker_id: WorkerId
    tiers: list[TierInfo]
    versions: int = 0


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


class ReportRequest(Message, frozen=True):
    """What changed in a worker's cache. `full` marks the pages of a registration (the first has `first`)."""

    worker_id: WorkerId
    changed: list[ReportedVersion]
    removed: list[Version] = []
    first: bool = False


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


class PollReply(Message, frozen=True):
    commands: list[Command]
