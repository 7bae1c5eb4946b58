"""Every call of the protocol: its number, its request and reply, and whether it may be sent again.

Owns: the method table, and the one place from which all messages are imported. Never: defines a message (the modules
`messages_*` do), encodes frames (`frames.py`) or serves anything.
"""

from typing import Any, Final, Generic, TypeVar

import msgspec

from isotach.wire.message_base import (
    Empty,
)
from isotach.wire.messages_data import (
    ChecksumReply,
    ChecksumRequest,
    CommitReply,
    CommitRequest,
    EnsureReply,
    EnsureRequest,
    FetchVersionRequest,
    HandleRequest,
    LoadReply,
    LoadRequest,
    MetricsReply,
    OpenReply,
    OpenRequest,
    PutRequest,
    ReadGrant,
    ReadReply,
    ReadRequest,
    WorkerStatusReply,
    WriteGrant,
    WriteOpenReply,
    WriteOpenRequest,
    WriteRequest,
)
from isotach.wire.messages_drafts import (
    DraftOpenReply,
    DraftOpenRequest,
    DraftPublishReply,
    DraftPublishRequest,
    DraftRequest,
    DraftRoomReply,
    DraftRoomRequest,
    DraftSessionRequest,
    DraftSyncRequest,
)
from isotach.wire.messages_handshake import (
    DirectAccess,
    Hello,
    Welcome,
)
from isotach.wire.messages_jobs import (
    JobFailure,
    JobFile,
    JobListReply,
    JobReply,
    JobRequest,
    JobRow,
    JobSubmitRequest,
)
from isotach.wire.messages_namespace_changes import (
    AbortRequest,
    BeginCommitReply,
    BeginCommitRequest,
    CompleteReply,
    CompleteRequest,
    CountReply,
    CreateReply,
    CreateRequest,
    EndCommitRequest,
    InodeReply,
    MkdirRequest,
    MountRequest,
    PathRequest,
    PersistRequest,
    PersistStatusReply,
    PersistStatusRequest,
    RemoveRequest,
    RenameRequest,
    SetAttrRequest,
    SyncReply,
    SyncRequest,
)
from isotach.wire.messages_namespace_reads import (
    ListEntry,
    ListReply,
    ListRequest,
    LocationsReply,
    LocationsRequest,
    LostFile,
    LostReply,
    LostRequest,
    MountsReply,
    PathReply,
    ResolveIdRequest,
    StatReply,
    StatRequest,
    StatusReply,
    WorkerRow,
    WorkersReply,
)
from isotach.wire.messages_posix import (
    Change,
    ChangesReply,
    ChangesRequest,
    LinkRequest,
    LockReply,
    LockRequest,
    LockRow,
    LockSessionReply,
    LockSessionRequest,
    LockTestReply,
    LockTestRequest,
    MakeReply,
    MakeRequest,
)
from isotach.wire.messages_workers import (
    Command,
    CommandResult,
    DecommissionReply,
    DecommissionRequest,
    HeartbeatReply,
    HeartbeatRequest,
    Leaver,
    PollReply,
    PollRequest,
    RegisterReply,
    RegisterRequest,
    ReportedVersion,
    ReportReply,
    ReportRequest,
    WorkerMountsReply,
    WorkerMountsRequest,
)

__all__ = [
    "ABORT",
    "BEGIN_COMMIT",
    "CHANGES",
    "CHECKSUM",
    "CLOSE_HANDLE",
    "COMMIT",
    "COMPLETE",
    "CREATE",
    "DECOMMISSION",
    "DRAFT_CLOSE",
    "DRAFT_OPEN",
    "DRAFT_PUBLISH",
    "DRAFT_ROOM",
    "DRAFT_SESSION",
    "DRAFT_SYNC",
    "END_COMMIT",
    "ENSURE",
    "FETCH_VERSION",
    "FREE",
    "HEARTBEAT",
    "JOB_CANCEL",
    "JOB_LIST",
    "JOB_STATUS",
    "JOB_SUBMIT",
    "LINK",
    "LIST",
    "LOAD",
    "LOCATIONS",
    "LOCK",
    "LOCK_SESSION",
    "LOCK_TEST",
    "LOST",
    "MAKE",
    "METHODS",
    "METRICS",
    "MKDIR",
    "MOUNT",
    "MOUNTS",
    "OPEN",
    "PERSIST",
    "PERSIST_STATUS",
    "POLL",
    "PUT",
    "READ",
    "REGISTER",
    "REMOVE",
    "RENAME",
    "REPORT",
    "RESOLVE_ID",
    "SET_ATTR",
    "STAT",
    "STATUS",
    "SYNC",
    "UNMOUNT",
    "WORKERS",
    "WORKER_MOUNTS",
    "WORKER_STATUS",
    "WRITE",
    "WRITE_ABORT",
    "WRITE_OPEN",
    "AbortRequest",
    "AnyMethod",
    "BeginCommitReply",
    "BeginCommitRequest",
    "Change",
    "ChangesReply",
    "ChangesRequest",
    "ChecksumReply",
    "ChecksumRequest",
    "Command",
    "CommandResult",
    "CommitReply",
    "CommitRequest",
    "CompleteReply",
    "CompleteRequest",
    "CountReply",
    "CreateReply",
    "CreateRequest",
    "DecommissionReply",
    "DecommissionRequest",
    "DirectAccess",
    "DraftOpenReply",
    "DraftOpenRequest",
    "DraftPublishReply",
    "DraftPublishRequest",
    "DraftRequest",
    "DraftRoomReply",
    "DraftRoomRequest",
    "DraftSessionRequest",
    "DraftSyncRequest",
    "Empty",
    "EndCommitRequest",
    "EnsureReply",
    "EnsureRequest",
    "FetchVersionRequest",
    "HandleRequest",
    "HeartbeatReply",
    "HeartbeatRequest",
    "Hello",
    "InodeReply",
    "JobFailure",
    "JobFile",
    "JobListReply",
    "JobReply",
    "JobRequest",
    "JobRow",
    "JobSubmitRequest",
    "Leaver",
    "LinkRequest",
    "ListEntry",
    "ListReply",
    "ListRequest",
    "LoadReply",
    "LoadRequest",
    "LocationsReply",
    "LocationsRequest",
    "LockReply",
    "LockRequest",
    "LockRow",
    "LockSessionReply",
    "LockSessionRequest",
    "LockTestReply",
    "LockTestRequest",
    "LostFile",
    "LostReply",
    "LostRequest",
    "MakeReply",
    "MakeRequest",
    "Method",
    "MetricsReply",
    "MkdirRequest",
    "MountRequest",
    "MountsReply",
    "OpenReply",
    "OpenRequest",
    "PathReply",
    "PathRequest",
    "PersistRequest",
    "PersistStatusReply",
    "PersistStatusRequest",
    "PollReply",
    "PollRequest",
    "PutRequest",
    "ReadGrant",
    "ReadReply",
    "ReadRequest",
    "RegisterReply",
    "RegisterRequest",
    "RemoveRequest",
    "RenameRequest",
    "ReportReply",
    "ReportRequest",
    "ReportedVersion",
    "ResolveIdRequest",
    "SetAttrRequest",
    "StatReply",
    "StatRequest",
    "StatusReply",
    "SyncReply",
    "SyncRequest",
    "Welcome",
    "WorkerMountsReply",
    "WorkerMountsRequest",
    "WorkerRow",
    "WorkerStatusReply",
    "WorkersReply",
    "WriteGrant",
    "WriteOpenReply",
    "WriteOpenRequest",
    "WriteRequest",
]


RequestT = TypeVar("RequestT", bound=msgspec.Struct)
ReplyT = TypeVar("ReplyT", bound=msgspec.Struct)


class Method(msgspec.Struct, Generic[RequestT, ReplyT], frozen=True):
    """One row: `idempotent` calls may be sent again after a lost connection, others only when they were never sent.
    Generic, so that a call's reply has the type that its method says."""

    number: int
    name: str
    request: type[RequestT]
    reply: type[ReplyT]
    idempotent: bool


#: A method whatever its messages: for tables and for code that only passes it on.
AnyMethod = Method[Any, Any]


def _row(
    number: int, name: str, request: type[RequestT], reply: type[ReplyT], idempotent: bool = False
) -> Method[RequestT, ReplyT]:
    return Method(number, name, request, reply, idempotent)


STAT: Final = _row(1, "stat", StatRequest, StatReply, True)
LIST: Final = _row(2, "list", ListRequest, ListReply, True)
MOUNTS: Final = _row(3, "mounts", Empty, MountsReply, True)
LOCATIONS: Final = _row(4, "locations", LocationsRequest, LocationsReply, True)
WORKERS: Final = _row(5, "workers", Empty, WorkersReply, True)
STATUS: Final = _row(6, "status", Empty, StatusReply, True)
RESOLVE_ID: Final = _row(7, "resolve_id", ResolveIdRequest, PathReply, True)
METRICS: Final = _row(8, "metrics", Empty, MetricsReply, True)

CREATE: Final = _row(20, "create", CreateRequest, CreateReply, True)
COMPLETE: Final = _row(21, "complete", CompleteRequest, CompleteReply, True)
ABORT: Final = _row(22, "abort", AbortRequest, Empty, True)
MKDIR: Final = _row(23, "mkdir", MkdirRequest, InodeReply)
RENAME: Final = _row(24, "rename", RenameRequest, InodeReply)
REMOVE: Final = _row(25, "remove", RemoveRequest, CountReply)
SET_ATTR: Final = _row(26, "set_attr", SetAttrRequest, CountReply, True)
MOUNT: Final = _row(27, "mount", MountRequest, Empty)
UNMOUNT: Final = _row(28, "unmount", PathRequest, Empty)
FREE: Final = _row(29, "free", PathRequest, CountReply, True)
PERSIST: Final = _row(30, "persist", PersistRequest, CountReply, True)
SYNC: Final = _row(31, "sync", SyncRequest, SyncReply, True)
DECOMMISSION: Final = _row(32, "decommission", DecommissionRequest, DecommissionReply, True)
LOST: Final = _row(33, "lost", LostRequest, LostReply, True)
JOB_SUBMIT: Final = _row(34, "job_submit", JobSubmitRequest, JobReply, True)
JOB_STATUS: Final = _row(35, "job_status", JobRequest, JobReply, True)
JOB_CANCEL: Final = _row(36, "job_cancel", JobRequest, JobReply, True)
JOB_LIST: Final = _row(37, "job_list", Empty, JobListReply, True)
PERSIST_STATUS: Final = _row(39, "persist_status", PersistStatusRequest, PersistStatusReply, True)

REGISTER: Final = _row(40, "register", RegisterRequest, RegisterReply, True)
HEARTBEAT: Final = _row(41, "heartbeat", HeartbeatRequest, HeartbeatReply, True)
REPORT: Final = _row(42, "report", ReportRequest, ReportReply, True)
POLL: Final = _row(43, "poll", PollRequest, PollReply, True)
BEGIN_COMMIT: Final = _row(44, "begin_commit", BeginCommitRequest, BeginCommitReply, True)
END_COMMIT: Final = _row(45, "end_commit", EndCommitRequest, Empty, True)
WORKER_MOUNTS: Final = _row(46, "worker_mounts", WorkerMountsRequest, WorkerMountsReply, True)

OPEN: Final = _row(60, "open", OpenRequest, OpenReply, True)
ENSURE: Final = _row(61, "ensure", EnsureRequest, EnsureReply)
READ: Final = _row(62, "read", ReadRequest, ReadReply)
CLOSE_HANDLE: Final = _row(63, "close_handle", HandleRequest, Empty)
WRITE_OPEN: Final = _row(64, "write_open", WriteOpenRequest, WriteOpenReply)
WRITE: Final = _row(65, "write", WriteRequest, Empty)
COMMIT: Final = _row(66, "commit", CommitRequest, CommitReply)
WRITE_ABORT: Final = _row(67, "write_abort", HandleRequest, Empty)
PUT: Final = _row(68, "put", PutRequest, CommitReply)
LOAD: Final = _row(69, "load", LoadRequest, LoadReply, True)
FETCH_VERSION: Final = _row(70, "fetch_version", FetchVersionRequest, ReadReply, True)
WORKER_STATUS: Final = _row(71, "worker_status", Empty, WorkerStatusReply, True)
CHECKSUM: Final = _row(72, "checksum", ChecksumRequest, ChecksumReply, True)

MAKE: Final = _row(80, "make", MakeRequest, MakeReply)
LINK: Final = _row(81, "link", LinkRequest, InodeReply)
LOCK: Final = _row(82, "lock", LockRequest, LockReply, True)
LOCK_TEST: Final = _row(83, "lock_test", LockTestRequest, LockTestReply, True)
LOCK_SESSION: Final = _row(84, "lock_session", LockSessionRequest, LockSessionReply, True)
CHANGES: Final = _row(85, "changes", ChangesRequest, ChangesReply, True)

DRAFT_SESSION: Final = _row(90, "draft_session", DraftSessionRequest, Empty, True)
DRAFT_OPEN: Final = _row(91, "draft_open", DraftOpenRequest, DraftOpenReply)
DRAFT_ROOM: Final = _row(92, "draft_room", DraftRoomRequest, DraftRoomReply)
DRAFT_SYNC: Final = _row(93, "draft_sync", DraftSyncRequest, Empty, True)
DRAFT_PUBLISH: Final = _row(94, "draft_publish", DraftPublishRequest, DraftPublishReply)
DRAFT_CLOSE: Final = _row(95, "draft_close", DraftRequest, Empty, True)

METHODS: Final[dict[int, AnyMethod]] = {row.number: row for row in list(globals().values()) if isinstance(row, Method)}
