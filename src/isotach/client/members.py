"""Calls about workers and what they hold: sending one away, and the files that are lost.

Owns: these operations and their results. Never: sends anything (the links do), or waits for a worker to be empty.
"""

import os
from collections.abc import Iterator

from isotach.base.limits import LOST_PAGE_FILES_MAX
from isotach.base.paths import normalize
from isotach.base.types import FileInfo
from isotach.client.operations import Operation, PathLike, Where
from isotach.client.records import LeavingWorker, LostInfo
from isotach.wire import messages
from isotach.wire.messages import DecommissionReply, DecommissionRequest, LostReply, LostRequest


def decommission(worker: str, action: str) -> Operation[list[LeavingWorker]]:
    """`action`: START, CANCEL or ASK."""

    def decode(reply: DecommissionReply, _payload: object) -> list[LeavingWorker]:
        return [
            LeavingWorker(
                worker_id=each.worker_id,
                host=each.host,
                state=each.state,
                files_left=each.files_left,
                bytes_left=each.bytes_left,
                problem=each.problem,
            )
            for each in reply.leavers
        ]

    return Operation(messages.DECOMMISSION, DecommissionRequest(worker, action), Where.MASTER, decode)


def lost_page(path: PathLike, recursive: bool, after: int) -> Operation[tuple[list[LostInfo], int]]:
    """One page of the lost files, and where the next begins (-1: that was all)."""

    def decode(reply: LostReply, _payload: object) -> tuple[list[LostInfo], int]:
        return list(_lost_infos(reply)), reply.next_after

    request = LostRequest(normalize(path), recursive, after, LOST_PAGE_FILES_MAX)
    return Operation(messages.LOST, request, Where.MASTER, decode)


def _lost_infos(reply: LostReply) -> Iterator[LostInfo]:
    for file in reply.files:
        info = FileInfo(os.fsdecode(file.path), file.inode)
        yield LostInfo(info=info, worker_id=file.worker_id, host=file.host, since=file.since_ms / 1000)
