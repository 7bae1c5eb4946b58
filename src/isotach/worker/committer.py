"""The worker's side of a commit at the master: begin, complete, give up, abort.

Owns: these calls and their patience while the master is away. Never: moves bytes.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from isotach.base.errors import DeadlineExceededError, IsotachError, ProtocolError, UnavailableError
from isotach.base.limits import COMMIT_RETRY_S
from isotach.base.types import Inode, Version, WorkerId
from isotach.net.blocking_channel import BlockingChannel
from isotach.obs.log import get_logger
from isotach.wire.messages import (
    ABORT,
    BEGIN_COMMIT,
    COMPLETE,
    CREATE,
    END_COMMIT,
    AbortRequest,
    BeginCommitReply,
    BeginCommitRequest,
    CompleteRequest,
    CreateRequest,
    EndCommitRequest,
)
from isotach.worker.leases import Leases

log = get_logger("worker.commit")
_GIVE_UP_DEADLINE_S: Final = 2.0
_COMMIT_DEADLINE_S: Final = 30.0
_RENEW_DEADLINE_S: Final = 5.0


class Committer:
    """One per worker; any thread. `channel` leads to the master."""

    def __init__(
        self, channel: BlockingChannel, worker_id: WorkerId, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.worker_id: Final = worker_id
        self._channel: Final = channel
        self._monotonic_s: Final = monotonic_s
        self._leases: Final = Leases(self._renew)

    def close(self) -> None:
        """Keeps no commit open any more."""
        self._leases.close()

    def begin_write(self, sealed: bytes) -> BeginCommitReply:
        """Before a written file becomes visible in the under storage. Raises StaleVersionError when
        it was overtaken."""
        request = BeginCommitRequest(sealed, worker_id=self.worker_id)
        return self._channel.call(BEGIN_COMMIT, request, deadline_s=_COMMIT_DEADLINE_S)[0]

    def begin_persist(self, version: Version) -> BeginCommitReply:
        """The same for a file that is visible already. Raises StaleVersionError when it was overtaken or removed."""
        request = BeginCommitRequest(b"", version, self.worker_id)
        return self._channel.call(BEGIN_COMMIT, request, deadline_s=_COMMIT_DEADLINE_S)[0]

    def held(self, version: Version) -> AbstractContextManager[None]:
        """While the under storage makes the file visible, however long it takes, the commit stays open."""
        return self._leases.held(version)

    def _renew(self, version: Version) -> None:
        request = BeginCommitRequest(b"", version, self.worker_id, renew=True)
        self._channel.call(BEGIN_COMMIT, request, deadline_s=_RENEW_DEADLINE_S)

    def complete(self, request: CompleteRequest) -> Inode:
        """Makes the file visible, trying again while the master is away (COMPLETE is idempotent). Raises what the
        master refused it by, or UnavailableError after COMMIT_RETRY_S: then whether it took effect is unknown."""
        end = self._monotonic_s() + COMMIT_RETRY_S
        while True:
            try:
                return self._channel.call(COMPLETE, request, deadline_s=_COMMIT_DEADLINE_S)[0].inode
            except (UnavailableError, DeadlineExceededError) as error:
                if self._monotonic_s() >= end:
                    raise
                log.warning("complete_retried", error=error)

    def renewed(self, sealed: bytes, write_type: str) -> bytes:
        """A fresh grant, sealed, for a write by id whose own may have expired. Raises StaleVersionError when the file
        was removed (with ENOENT) or written since."""
        request = CreateRequest(b"", write_type, write_type_given=False, renews=sealed)
        return self._channel.call(CREATE, request, deadline_s=_COMMIT_DEADLINE_S)[0].grant

    def end_persist(self, begun: BeginCommitReply, version: Version, fingerprint: str | None) -> None:
        """The under storage has the file. Raises StaleVersionError when it was overtaken meanwhile."""
        request = EndCommitRequest(begun.intent_id, version, fingerprint)
        self._channel.call(END_COMMIT, request, deadline_s=_COMMIT_DEADLINE_S)

    def give_up(self, intent_id: int, version: Version) -> None:
        """The commit failed: the master looks what the store shows. If it cannot be told, its lease tells it."""
        try:
            request = EndCommitRequest(intent_id, version, failed=True)
            self._channel.call(END_COMMIT, request, deadline_s=_GIVE_UP_DEADLINE_S)
        except (IsotachError, OSError) as error:
            log.warning("give_up_not_told", version=version, error=error)

    def abort(self, sealed: bytes) -> None:
        """The writer is gone. If the master cannot be told, it gives the write up by itself in time."""
        try:
            self._channel.call(ABORT, AbortRequest(sealed), deadline_s=_GIVE_UP_DEADLINE_S)
        except (IsotachError, OSError) as error:
            log.warning("abort_not_told", error=error)

    @staticmethod
    def is_outcome_unknown(error: Exception) -> bool:
        """Whether the call that raised this may have taken effect."""
        return isinstance(error, UnavailableError | DeadlineExceededError | ProtocolError)
