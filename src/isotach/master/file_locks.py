"""Locks of programs across mounts: fcntl's record locks and flock, as the kernel of each mount asks for them.

Owns: LOCK, LOCK_TEST and LOCK_SESSION: who may ask, how long a request waits, and what a session that ends gives up.
Never: knows ranges (`lock_table.py`) or leases (`lock_sessions.py`). Locks are on file ids, which are never reused: a
file that is removed keeps them until they are released.

Locks live in memory: each mount keeps what it holds and tells it to a restarted master. Only the first lock of a
session costs a commit: the row that makes a restarted master wait for it.
"""

import asyncio
import errno
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from isotach.base.errors import InvalidArgumentError, StaleVersionError
from isotach.base.limits import LOCK_PLACE_S, LOCK_WAIT_MS_MAX
from isotach.base.lock_ranges import LOCK_END_MAX, LOCK_NONE, LOCK_READ, LOCK_WRITE, Held, LockKey
from isotach.master.core import Core
from isotach.master.lock_sessions import LockSessions, Placed
from isotach.master.lock_table import LockTable, Waiter
from isotach.master.lock_users import LockUsers
from isotach.namespace import permissions
from isotach.namespace.lookup import inode_of, path_of, resolve
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.messages import (
    LockReply,
    LockRequest,
    LockRow,
    LockSessionReply,
    LockSessionRequest,
    LockTestReply,
    LockTestRequest,
)

log: Final = get_logger("master.locks")
_SESSION_BYTES: Final = 16
_BUSY: Final = "another program holds a lock on this range: try again, or wait for it"


class FileLocks:
    """See the module. For the event-loop thread."""

    def __init__(self, core: Core, sessions: LockSessions, table: LockTable | None = None) -> None:
        self._core: Final = core
        self.sessions: Final = sessions
        self.table: Final = LockTable() if table is None else table
        self.users: Final = LockUsers()
        self._futures: Final[dict[Waiter, asyncio.Future[None]]] = {}
        self._loop: Final = asyncio.get_running_loop()
        #: Where the feed of changes stands; set by who makes both.
        self.position: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.granted = 0
        self.refused = 0
        self.waited = 0

    # --- LOCK ---

    def lock(self, request: LockRequest, peer: Peer) -> LockReply | Coroutine[Any, Any, LockReply]:
        """Raises OSError: EAGAIN (somebody holds it), EDEADLK, ENOLCK; StaleVersionError for a session that is not
        known; PermissionError where the caller may not open the file."""
        session = self.sessions.alive(request.session)
        session.lost = []  # it has had the answer that told it
        key, wanted = _placed(request.session, request.lock)
        if wanted.kind == LOCK_NONE:
            self.table.take(key, wanted)
            self._settle(key)
            return LockReply()
        self._check_allowed(key, peer)
        is_ready = session.is_noted and self.sessions.is_grace_over
        if is_ready and self.users.enter(key[0], request.session):
            return self._acquire(key, wanted, request.wait_ms)
        return self._acquire_first(key, wanted, request)

    async def _acquire_first(self, key: LockKey, wanted: Held, request: LockRequest) -> LockReply:
        await self.sessions.grace()
        await self.sessions.note(request.session)
        try:
            async with asyncio.timeout(self.sessions.lease_s):
                await self.users.all_know(key[0], request.session)
        except TimeoutError:
            log.warning("lock_not_shared_in_time", file_id=key[0])  # whoever has it open has not published it
        self.sessions.alive(request.session)
        result = self._acquire(key, wanted, request.wait_ms)
        return result if isinstance(result, LockReply) else await result

    def _reply(self, key: LockKey, session: bytes) -> LockReply:
        shared = self.users.is_shared(key[0], session)
        if not shared:
            return LockReply()
        with self._core.reading() as view:
            try:
                version = inode_of(view, key[0]).version
            except FileNotFoundError:
                version = 0
        return LockReply(shared, version, *self.position())

    def _acquire(self, key: LockKey, wanted: Held, wait_ms: int) -> LockReply | Coroutine[Any, Any, LockReply]:
        if wait_ms > 0:
            self._drop_before_conversion(key, wanted)
            waiter = self.table.enter(key, wanted)
            if waiter is not None:
                return self._wait(waiter, min(wait_ms, LOCK_WAIT_MS_MAX) / 1000)
        else:
            if self.table.blocker(key, wanted) is not None:
                self._drop_before_conversion(key, wanted)
                self.refused += 1
                raise BlockingIOError(errno.EAGAIN, _BUSY)
            self.table.take(key, wanted)
        self._given(key, wanted)
        self._settle(key)  # a downgrade lets others in
        return self._reply(key, wanted.owner[0])

    def _drop_before_conversion(self, key: LockKey, wanted: Held) -> None:
        """flock(2) gives up the lock that it converts, before it waits for or is refused the other kind."""
        if key[1] and self.table.blocker(key, wanted) is not None:
            self.table.take(key, wanted._replace(kind=LOCK_NONE))
            self._settle(key)

    async def _wait(self, waiter: Waiter, wait_s: float) -> LockReply:
        self.waited += 1
        future = self._futures.get(waiter)
        if future is None:
            future = self._futures[waiter] = self._loop.create_future()
        try:
            await asyncio.wait({future}, timeout=wait_s)
        except asyncio.CancelledError:
            self._forget(waiter)
            raise
        if future.done():
            future.result()
            return self._reply(waiter.key, waiter.wanted.owner[0])
        waiter.is_parked = True
        self._futures.pop(waiter, None)
        self._loop.call_later(LOCK_PLACE_S, self._forget_parked, waiter)
        self.refused += 1
        raise BlockingIOError(errno.EAGAIN, _BUSY)

    def _forget_parked(self, waiter: Waiter) -> None:
        if waiter.is_parked:
            self._forget(waiter)

    def _forget(self, waiter: Waiter) -> None:
        self._futures.pop(waiter, None)
        self.table.leave(waiter)
        self._settle(waiter.key)

    def _given(self, key: LockKey, lock: Held) -> None:
        self.granted += 1
        self.sessions.given(key, lock)

    def _settle(self, key: LockKey) -> None:
        for waiter in self.table.settle(key):
            self._given(key, waiter.wanted)
            future = self._futures.pop(waiter, None)
            if future is not None and not future.done():
                future.set_result(None)

    def _check_allowed(self, key: LockKey, peer: Peer) -> None:
        """Who could not open the file must not keep others from it. What has no name any more nobody else can open."""
        actor = self._core.identity.actor(peer)
        if actor.superuser:
            return
        with self._core.reading() as view:
            try:
                found = resolve(view, path_of(view, key[0]), actor)
            except FileNotFoundError:
                return
        if not permissions.allowed(found.inode, actor, permissions.READ):
            permissions.check(found.inode, actor, permissions.WRITE, found.path)

    # --- LOCK_TEST ---

    def test(self, request: LockTestRequest, peer: Peer) -> LockTestReply | Coroutine[Any, Any, LockTestReply]:
        """Raises StaleVersionError and PermissionError, as `lock` does."""
        self.sessions.alive(request.session)
        key, wanted = _placed(request.session, request.lock)
        self._check_allowed(key, peer)
        return self._tested(key, wanted) if self.sessions.is_grace_over else self._tested_later(key, wanted)

    async def _tested_later(self, key: LockKey, wanted: Held) -> LockTestReply:
        await self.sessions.grace()
        return self._tested(key, wanted)

    def _tested(self, key: LockKey, wanted: Held) -> LockTestReply:
        blocker = self.table.blocker(key, wanted)
        if blocker is None:
            return LockTestReply()
        row = _row(key, blocker)
        if blocker.owner[0] != wanted.owner[0]:  # a session is a secret, and its process ids mean nothing elsewhere
            row = LockRow(row.file_id, row.flock, row.kind, 0, row.start, row.end)
        return LockTestReply(row)

    # --- LOCK_SESSION ---

    def session(self, request: LockSessionRequest, _peer: Peer) -> LockSessionReply:
        """Never refuses what a session held, but tells what it has lost."""
        session, lease_ms = request.session, int(self.sessions.lease_s * 1000)
        if len(session) != _SESSION_BYTES:
            raise InvalidArgumentError(f"a session is {_SESSION_BYTES} random bytes, not {len(session)}")
        if request.end:
            self._drop(session)
            self.sessions.end(session)
            return LockSessionReply(False, lease_ms)
        self.users.published(session, request.published)
        self.users.leave(session, request.left)
        if request.held is None:
            known = self.sessions.find(session) is not None
            held = self.table.held_by(session) if request.recall and known else ()
            wanted = self.users.wanted_of(session)
            return LockSessionReply(known, lease_ms, held=[_row(*each) for each in held], wanted=wanted)
        self.sessions.enter(session)
        lost = self._retake(session, [_placed(session, row) for row in request.held])
        self.sessions.returned(session)
        return LockSessionReply(True, lease_ms, [_row(*each) for each in lost])

    def _retake(self, session: bytes, held: list[Placed]) -> list[Placed]:
        """Gives a session what it held before; what is others' by now."""
        lost = self.sessions.lost_of(session, held)
        gone = []
        for each in held:
            if each in lost or self.table.blocker(*each) is not None:
                gone.append(each)
            else:
                self.table.take(*each)
                self.sessions.given(*each)
        return gone

    # --- sessions that end ---

    async def check_leases(self) -> None:
        """To be called every LOCK_LEASES_CHECK_S."""
        for session in self.sessions.overdue():
            held = list(self.table.held_by(session))
            self.sessions.lapse(session, held)
            self._drop(session)

    def _drop(self, session: bytes) -> None:
        self.users.end(session)
        touched = self.table.drop_session(session)
        for waiter in [each for each in self._futures if each.wanted.owner[0] == session]:
            future = self._futures.pop(waiter)
            if not future.done():
                future.set_exception(StaleVersionError("the session of this request has ended: its locks are gone"))
        self._settle_all(touched)

    def _settle_all(self, touched: Iterable[LockKey]) -> None:
        for key in touched:
            self._settle(key)

    def close(self) -> None:
        """Answers those who wait: they ask the next master again."""
        for waiter in list(self._futures):
            future = self._futures.pop(waiter)
            if not future.done():
                future.set_exception(BlockingIOError(errno.EAGAIN, "the master is shutting down: ask again"))


def _placed(session: bytes, row: LockRow) -> Placed:
    """Checks a row that came over the wire."""
    if row.kind not in (LOCK_READ, LOCK_WRITE, LOCK_NONE) or not 0 <= row.start <= row.end <= LOCK_END_MAX:
        raise InvalidArgumentError(f"no such lock: kind {row.kind} on {row.start} to {row.end}")
    start, end = (0, LOCK_END_MAX) if row.flock else (row.start, row.end)
    return (row.file_id, row.flock), Held(start, end, row.kind, row.pid, (session, row.owner))


def _row(key: LockKey, lock: Held) -> LockRow:
    session, owner = lock.owner
    return LockRow(key[0], key[1], lock.kind, owner, lock.start, lock.end, lock.pid, session)
