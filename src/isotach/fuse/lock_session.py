"""The mount's session of locks at the master: kept alive, brought back after a restart, honest about what was lost.

Owns: the calls, the thread that says that the mount lives, what is to be given up but could not be told yet, and which
owners lost a lock. Never: speaks to the kernel.

The session begins with the first lock and ends with the mount, or a while after the last lock. When the master does not
know it (any more), it tells what it holds; what others had meanwhile is lost, and the next call of such an owner fails
with EIO, once: a program must not go on as if it had held the lock all the time.
"""

import contextlib
import errno
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from isotach.base.errors import IsotachError, StaleVersionError, UnavailableError
from isotach.base.limits import (
    LOCK_GOODBYE_S,
    LOCK_IDLE_S,
    LOCK_LEASE_S,
    LOCK_SIGN_S,
    LOCKS_PER_SESSION_MAX,
)
from isotach.base.lock_ranges import LOCK_NONE, LOCK_WRITE, Held, LockKey, LockOwner
from isotach.base.types import FileId, Version
from isotach.fuse.contract import LockedFiles
from isotach.fuse.held_locks import HeldLocks
from isotach.net.blocking_channel import BlockingChannel
from isotach.obs.log import get_logger
from isotach.wire.messages import (
    LOCK,
    LOCK_SESSION,
    LOCK_TEST,
    LockReply,
    LockRequest,
    LockRow,
    LockSessionReply,
    LockSessionRequest,
    LockTestRequest,
)

_log: Final = get_logger("fuse.locks")
_ATTEMPTS: Final = 4


class LockSession:
    """Any thread. `timeout_s`: how long a call waits for a master that is away."""

    def __init__(self, channel: BlockingChannel, session: bytes, timeout_s: float) -> None:
        self._channel: Final = channel
        self._session: Final = session
        self._timeout_s: Final = timeout_s
        self.files: LockedFiles = _NoFiles()
        #: Waits until changes up to there are known (`Feed.catch_up`).
        self.catch_up: Callable[[int, int], bool] = lambda _feed, _after: True
        self.held: Final = HeldLocks()
        self._used: Final[dict[FileId, bool]] = {}  # files that are locked now and then; whether other mounts do so too
        self._using: Final = threading.Lock()
        self._lost: Final[set[tuple[LockKey, LockOwner]]] = set()
        self._unsent: Final[deque[tuple[LockKey, Held]]] = deque()
        self._sending: Final = threading.RLock()
        self._entering: Final = threading.Lock()
        self._generation = 0  # of entering; 0: never
        self._is_in = False
        self._used_at = 0.0
        self._wake: Final = threading.Event()
        self._closing: Final = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost_count = 0

    # --- calls ---

    def take(self, key: LockKey, wanted: Held, wait_ms: int) -> None:
        """Takes a lock, and takes in what another mount wrote under it before. Raises OSError: EAGAIN, EDEADLK, ENOLCK,
        and EIO where the owner lost one before."""
        self._check_lost(key, wanted.owner)
        with self._using:
            self._used.setdefault(key[0], False)
        request = LockRequest(self._session, _row(key, wanted), wait_ms)
        while True:
            self._enter_first()
            generation = self._generation
            if wanted.kind != LOCK_WRITE:
                self._publish(key)  # a downgrade lets others in
            reply = self._call_lock(request, wait_ms)
            self.held.set(key, wanted)
            if generation == self._generation:
                break
            # Another thread told a new master what is held, and did not know of this lock yet.
            self.held.set(key, wanted._replace(kind=LOCK_NONE))
        try:
            self._refresh(key, reply)
        except BaseException:
            self.give_up_soon(key, wanted)  # a lock on a content that cannot be had is none
            raise

    def give_up(self, key: LockKey, released: Held) -> None:
        """Gives up a range, whatever was held of it, once what was written is published. Where the master cannot be
        told, it will be before anything else. Raises EIO where the owner lost a lock before, and what publishing
        did."""
        try:
            self._check_lost(key, released.owner)
            self._publish(key)
        finally:
            self.held.set(key, released._replace(kind=LOCK_NONE))
            if self._is_in:
                self._unsent.append((key, released._replace(kind=LOCK_NONE)))
                try:
                    self._send_unsent()
                except (IsotachError, OSError) as problem:
                    self._keep_unsent(problem)

    def give_up_soon(self, key: LockKey, released: Held) -> None:
        """The same without waiting, for owners that are gone."""
        self._lost.discard((key, released.owner))
        self.held.set(key, released._replace(kind=LOCK_NONE))
        if self._is_in:
            self._unsent.append((key, released._replace(kind=LOCK_NONE)))
            self._wake.set()

    def test(self, key: LockKey, wanted: Held) -> LockRow | None:
        """Who is in the way of this lock."""
        self._enter_first()
        request = LockTestRequest(self._session, _row(key, wanted))
        for _ in range(_ATTEMPTS):
            generation = self._generation
            try:
                self._send_unsent()
                return self._channel.call(LOCK_TEST, request, deadline_s=self._timeout_s)[0].blocker
            except StaleVersionError:
                self._enter(generation)
        raise UnavailableError("the master keeps forgetting this mount: its locks cannot be told")

    # --- contents that go with the locks ---

    def _publish(self, key: LockKey) -> None:
        if self._used.get(key[0]):
            self.files.publish_locked(key[0])

    def _refresh(self, key: LockKey, reply: LockReply) -> None:
        if reply.shared:
            self._used[key[0]] = True
            if reply.feed and not self.catch_up(reply.feed, reply.after):
                _log.warning("changes_late", reason="names may be older than the lock")
            if reply.version:
                self.files.refresh_locked(key[0], reply.version)

    def _publish_wanted(self, wanted: list[FileId]) -> None:
        """Another mount uses locks on these files from now on."""
        for file_id in wanted:
            self._used[file_id] = True
            try:
                self.files.publish_locked(file_id)
            except (IsotachError, OSError) as problem:  # the close or fsync of the program tells it
                _log.warning("not_published_for_others", file_id=file_id, reason=str(problem))

    def _leave_unused(self) -> list[FileId]:
        """Files that are not open for writing nor locked any more: what others do with them is of no matter."""
        with self._using:
            unused = [
                file_id
                for file_id in self._used
                if not self.held.any((file_id, False))
                and not self.held.any((file_id, True))
                and not self.files.is_written(file_id)
            ]
            for file_id in unused:
                del self._used[file_id]
        return unused

    # --- inside ---

    def _call_lock(self, request: LockRequest, wait_ms: int) -> LockReply:
        for _ in range(_ATTEMPTS):
            generation = self._generation
            try:
                self._send_unsent()
                return self._channel.call(LOCK, request, deadline_s=self._timeout_s + wait_ms / 1000)[0]
            except StaleVersionError:
                self._enter(generation)
        raise UnavailableError("the master keeps forgetting this mount: its programs get no locks")

    def _check_lost(self, key: LockKey, owner: LockOwner) -> None:
        self._used_at = time.monotonic()
        if self._lost and (key, owner) in self._lost:
            self._lost.discard((key, owner))
            raise OSError(
                errno.EIO, "a lock of this program was lost while the master could not be reached: others had it since"
            )

    def has_to_do_with(self, key: LockKey, owner: LockOwner) -> bool:
        """Whether the owner holds anything there, or has lost it and was not told yet."""
        return self.held.holds(key, owner) or (key, owner) in self._lost

    def forget_lost(self, key: LockKey, owner: LockOwner) -> None:
        """The owner is gone, and need not be told."""
        self._lost.discard((key, owner))

    # --- what could not be told yet ---

    def _send_unsent(self) -> None:
        """Tells what was given up, in order, before anything else is asked."""
        if not self._unsent:
            return
        with self._sending:
            while self._unsent:
                generation = self._generation
                request = LockRequest(self._session, _row(*self._unsent[0]))
                try:
                    self._channel.call(LOCK, request, deadline_s=self._timeout_s)
                except StaleVersionError:
                    self._enter(generation)  # and what was given up is not told to be held
                self._unsent.popleft()

    def _keep_unsent(self, problem: Exception) -> None:
        _log.warning("unlock_told_later", waiting=len(self._unsent), reason=str(problem))
        if len(self._unsent) > LOCKS_PER_SESSION_MAX:
            with self._sending, contextlib.suppress(IndexError):
                self._unsent.popleft()

    # --- the session ---

    def resume(self) -> None:
        """A process that takes the place of one that died: what that held is held by this one."""
        request = LockSessionRequest(self._session, recall=True)
        reply, _ = self._channel.call(LOCK_SESSION, request, deadline_s=self._timeout_s)
        if reply.known:
            for row in reply.held:
                self.held.set(*placed(self._session, row))
            self._entered()

    def hurry(self) -> None:
        """The master may have restarted: it is asked at once."""
        if self._is_in:
            self._wake.set()

    def close(self) -> None:
        """Gives up everything."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(LOCK_GOODBYE_S)
        if self._is_in:
            with contextlib.suppress(IsotachError, OSError):
                self._channel.call(LOCK_SESSION, LockSessionRequest(self._session, end=True), deadline_s=LOCK_GOODBYE_S)
        self._channel.close()

    def _enter_first(self) -> None:
        if not self._is_in:
            self._enter(self._generation)

    def _enter(self, generation: int) -> None:
        """Tells all that is held, unless another thread has done so since `generation`."""
        with self._entering:
            if generation != self._generation:
                return
            held = [_row(*each) for each in self.held.all()]
            request = LockSessionRequest(self._session, held)
            reply, _ = self._channel.call(LOCK_SESSION, request, deadline_s=self._timeout_s)
            self._take_in(reply)
            is_back = self._is_in
            self._entered()
        if is_back:  # a new master does not know who else uses these
            self._publish_wanted([file_id for file_id in list(self._used) if self.files.is_written(file_id)])

    def _entered(self) -> None:
        self._generation += 1
        self._is_in = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._stay_alive, name="isotach-locks", daemon=True)
            self._thread.start()

    def _take_in(self, reply: LockSessionReply) -> None:
        for row in reply.lost:
            key, held = placed(self._session, row)
            self.held.set(key, held._replace(kind=LOCK_NONE))
            self._lost.add((key, held.owner))
            self.lost_count += 1
        if reply.lost:
            _log.warning("locks_lost", locks=len(reply.lost), files=sorted({row.file_id for row in reply.lost})[:16])

    def _stay_alive(self) -> None:
        heard_at = time.monotonic()
        while not self._closing.is_set():
            self._wake.wait(LOCK_SIGN_S)
            self._wake.clear()
            if self._closing.is_set() or not self._is_in:
                continue
            try:
                self._sign()
                heard_at = time.monotonic()
            except (IsotachError, OSError) as problem:
                silent_s = time.monotonic() - heard_at
                if silent_s > LOCK_LEASE_S:
                    _log.warning("locks_in_doubt", silent_s=round(silent_s), reason=str(problem))

    def _sign(self) -> None:
        self._send_unsent()
        left = self._leave_unused()
        if not self.held and not self._used and time.monotonic() - self._used_at > LOCK_IDLE_S:
            self._leave()
            return
        generation = self._generation
        request = LockSessionRequest(self._session, left=left)
        while True:
            reply, _ = self._channel.call(LOCK_SESSION, request, deadline_s=LOCK_LEASE_S)
            if not reply.known:
                self._enter(generation)
                return
            if not reply.wanted:
                return
            self._publish_wanted(reply.wanted)
            request = LockSessionRequest(self._session, published=reply.wanted)

    def _leave(self) -> None:
        """Nobody uses locks: the next one begins the session anew."""
        with self._entering:
            self._is_in = False
            self._generation += 1
            self._channel.call(LOCK_SESSION, LockSessionRequest(self._session, end=True), deadline_s=LOCK_LEASE_S)


class _NoFiles:
    """`contract.LockedFiles` where contents do not go with locks."""

    def publish_locked(self, file_id: FileId) -> None: ...

    def refresh_locked(self, file_id: FileId, version: Version) -> None: ...

    def is_written(self, file_id: FileId) -> bool:
        return False


def placed(session: bytes, row: LockRow) -> tuple[LockKey, Held]:
    """A row that came over the wire."""
    return (row.file_id, row.flock), Held(row.start, row.end, row.kind, row.pid, (session, row.owner))


def _row(key: LockKey, lock: Held) -> LockRow:
    session, owner = lock.owner
    return LockRow(key[0], key[1], lock.kind, owner, lock.start, lock.end, lock.pid, session)
