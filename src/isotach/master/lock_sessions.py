"""The mounts whose programs hold locks: which live, which have lapsed, and who is waited for after a restart.

Owns: leases, the grace after a restart, the rows that make a master wait for sessions, and what may be said of a
session that comes back late. Never: knows which locks there are, beyond those that a lapsed session held.

A session lives as long as it gives a sign of life within LOCK_LEASE_S. When a lease ends its locks go; should it come
back, it is told which of them conflict with what was given to others since, also where those have released it again. As
with NFSv4, a master that starts gives out no lock before the sessions that held some have told theirs, or LOCK_GRACE_S
are over.
"""

import asyncio
from typing import Final

from isotach.base.errors import StaleVersionError, UnavailableError
from isotach.base.limits import (
    LOCK_GRACE_S,
    LOCK_LAPSES_KEPT_MAX,
    LOCK_LEASE_S,
    LOCK_LEASES_CHECK_S,
    LOCK_SESSIONS_MAX,
)
from isotach.base.lock_ranges import Held, LockKey, conflicts
from isotach.master.core import Core
from isotach.namespace import keys
from isotach.obs.log import get_logger

_log: Final = get_logger("master.locks")
_LATE_S: Final = 1.5

#: A lock and what it is on.
Placed = tuple[LockKey, Held]


class Session:
    """One mount. `is_noted`: a restarted master would wait for it. `lost`: what it was told that it has lost."""

    __slots__ = ("is_noted", "lost", "noting", "seen_at")

    def __init__(self, now_s: float) -> None:
        self.seen_at = now_s
        self.is_noted = False
        self.noting: asyncio.Future[None] | None = None
        self.lost: list[Placed] = []


class LockSessions:
    """For the event-loop thread; times are the loop's."""

    def __init__(self, core: Core, *, lease_s: float = LOCK_LEASE_S, grace_s: float = LOCK_GRACE_S) -> None:
        self._core: Final = core
        self.lease_s: Final = lease_s
        self._grace_s: Final = grace_s
        self._loop: Final = asyncio.get_running_loop()
        self._live: Final[dict[bytes, Session]] = {}
        self._lapsed: Final[dict[bytes, tuple[list[Placed], set[Placed]]]] = {}  # what it held; what is lost of it
        self._awaited: set[bytes] = set()
        self._unheard: Final[set[bytes]] = set()  # awaited in vain: what they held was given out since, perhaps
        self._grace_over: Final = asyncio.Event()
        self._checked_at = self._loop.time()

    @property
    def count(self) -> int:
        return len(self._live)

    @property
    def is_grace_over(self) -> bool:
        """Whether locks are given out."""
        return self._grace_over.is_set()

    # --- the grace ---

    def begin(self) -> None:
        """Reads whom to wait for. Before the first call is served."""
        with self._core.reading() as view:
            self._awaited = {key[1:] for key, _ in view.scan(*keys.all_of(b"s"))}
        if not self._awaited:
            self._grace_over.set()
            return
        _log.info("locks_awaited", sessions=len(self._awaited), seconds=self._grace_s)
        self._loop.call_later(self._grace_s, self._end_grace)

    async def grace(self) -> None:
        """Returns once locks are given out."""
        await self._grace_over.wait()

    def _end_grace(self) -> None:
        if not self._grace_over.is_set():
            self._grace_over.set()
            if self._awaited:
                _log.warning("lock_sessions_not_back", sessions=len(self._awaited))
            for session in self._awaited:
                self._unheard.add(session)
                self._forget_row(session)
            self._awaited = set()

    # --- lives ---

    def alive(self, session: bytes) -> Session:
        """A session that is known; this is a sign of life. Raises StaleVersionError: it must tell what it holds."""
        known = self._live.get(session)
        if known is None:
            raise StaleVersionError("the master does not know this session (any more): tell it which locks are held")
        known.seen_at = self._loop.time()
        return known

    def find(self, session: bytes) -> Session | None:
        """The same, or None."""
        return self.alive(session) if session in self._live else None

    def enter(self, session: bytes) -> Session:
        """A session that tells what it holds (`lost_of` says what of it is not true any more). Raises UnavailableError
        when there are too many."""
        if session not in self._live:
            if len(self._live) >= LOCK_SESSIONS_MAX:
                raise UnavailableError(f"{LOCK_SESSIONS_MAX} mounts have locks: unmount some")
            self._live[session] = Session(self._loop.time())
        return self.alive(session)

    def lost_of(self, session: bytes, held: list[Placed]) -> list[Placed]:
        """What a session that comes back has lost because others may have had it in between. Asked again (an answer may
        be lost on its way) it is the same."""
        lost = self._live[session].lost
        if session in self._unheard:
            self._unheard.discard(session)
            lost += held
        elif session in self._lapsed:
            lost += self._lapsed.pop(session)[1]
        return [each for each in held if any(_overlap(each, other) for other in lost)]

    def returned(self, session: bytes) -> None:
        """It has told all that it holds."""
        if session in self._awaited:
            self._awaited.discard(session)
            self._live[session].is_noted = True
            if not self._awaited:
                self._end_grace()

    async def note(self, session: bytes) -> None:
        """Makes sure that a restarted master waits for this session: durable when it returns. Once per session."""
        known = self._live[session]
        if known.noting is None:
            known.noting = self._core.pipeline.submit(lambda view: view.put(keys.lock_session(session), b""))
        noting = known.noting
        try:
            await asyncio.shield(noting)
        except OSError:
            known.noting = None
            raise
        known.is_noted = True

    def end(self, session: bytes) -> None:
        """It holds nothing any more and says goodbye."""
        known = self._live.pop(session, None)
        was_awaited = session in self._awaited
        self._awaited.discard(session)
        if was_awaited or (known is not None and (known.is_noted or known.noting is not None)):
            self._forget_row(session)
        if was_awaited and not self._awaited:
            self._end_grace()

    def lapse(self, session: bytes, held: list[Placed]) -> None:
        """Its lease has ended: keeps in mind what it held."""
        self.end(session)
        if held:
            while len(self._lapsed) >= LOCK_LAPSES_KEPT_MAX:
                forgotten = next(iter(self._lapsed))
                del self._lapsed[forgotten]
                self._keep_unheard(forgotten)
            self._lapsed[session] = (held, set())
        _log.warning("lock_session_lapsed", locks=len(held), lease_s=self.lease_s)

    def given(self, key: LockKey, lock: Held) -> None:
        """A lock was given out: lapsed sessions may have lost theirs by it."""
        for had, lost in self._lapsed.values():
            lost.update(each for each in had if each[0] == key and conflicts(each[1], lock))

    def overdue(self) -> list[bytes]:
        """Whose lease has ended. To be called every LOCK_LEASES_CHECK_S: a round that comes late was held up by what
        held up the sessions' signs of life too, and ends nothing."""
        now_s = self._loop.time()
        late_s = now_s - self._checked_at - LOCK_LEASES_CHECK_S
        self._checked_at = now_s
        if late_s > _LATE_S:
            for known in self._live.values():
                known.seen_at = min(now_s, known.seen_at + late_s)
        return [session for session, known in self._live.items() if now_s - known.seen_at > self.lease_s]

    # --- inside ---

    def _keep_unheard(self, session: bytes) -> None:
        if len(self._unheard) >= LOCK_SESSIONS_MAX:
            self._unheard.pop()
        self._unheard.add(session)

    def _forget_row(self, session: bytes) -> None:
        done = self._core.pipeline.submit(lambda view: view.delete(keys.lock_session(session)))
        done.add_done_callback(lambda each: each.cancelled() or each.exception())  # at worst somebody is waited for


def _overlap(one: Placed, other: Placed) -> bool:
    """Whether these are of one owner, on the same bytes."""
    (key, lock), (other_key, other_lock) = one, other
    is_same = key == other_key and lock.owner == other_lock.owner
    return is_same and lock.start <= other_lock.end and other_lock.start <= lock.end
