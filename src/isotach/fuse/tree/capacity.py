"""STATFS: how large the mount is.

Owns: what is told. Never: measures an under storage.

An under storage has no size that anybody knows, and a write goes through to it when every tier is full: so there is
always room. What is told as used is what the tiers of all workers hold; what is free is a pebibyte beyond that. Tools
that refuse to begin on a full disk (`df`, package managers, data bases) then behave as they should: a write that fails
for want of room says so itself.
"""

import time
from typing import Final

from isotach.base.limits import NAME_BYTES_MAX, STATFS_AGE_S
from isotach.fuse.contract import Handler, Reply, Request
from isotach.fuse.protocol import replies
from isotach.fuse.protocol.constants import Opcode
from isotach.fuse.tree.core import TreeCore
from isotach.wire import messages

_BLOCK_BYTES: Final = 4096
_FREE_BYTES: Final = 1 << 50
_FREE_FILES: Final = 1 << 40


class Capacity:
    """For many threads."""

    def __init__(self, core: TreeCore) -> None:
        self._core: Final = core
        self._told = b""
        self._until_s = -1.0

    def handlers(self) -> dict[int, Handler]:
        """By opcode."""
        return {Opcode.STATFS: self._statfs}

    def _statfs(self, request: Request) -> Reply:
        if time.monotonic() < self._until_s:
            return self._told
        self._core.later.run("tree", request, self._ask)
        return None

    def _ask(self, _request: Request) -> Reply:
        core = self._core
        reply = core.calls.run(messages.STATUS, messages.Empty())
        assert isinstance(reply, messages.StatusReply)
        used = sum(tier.used_bytes for row in reply.workers if row.live for tier in row.tiers) // _BLOCK_BYTES
        free = _FREE_BYTES // _BLOCK_BYTES
        told = replies.StatFs(
            used + free, free, free, reply.inodes + _FREE_FILES, _FREE_FILES, _BLOCK_BYTES, NAME_BYTES_MAX, _BLOCK_BYTES
        )
        self._told = replies.statfs(told)
        self._until_s = time.monotonic() + STATFS_AGE_S
        return self._told
