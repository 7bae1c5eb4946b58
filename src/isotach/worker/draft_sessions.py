"""The mounts of this host that have drafts here, each by the random name of its session.

Owns: the table of sessions and their drafts, which connection each hangs on, and when a session that lost it is over.
Never: touches a draft or answers a call (`drafts.py`).
"""

import errno
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from isotach.base.errors import AuthenticationError, InvalidArgumentError, UnavailableError
from isotach.base.limits import DRAFT_OUTCOMES_KEPT_MAX, DRAFT_SESSIONS_MAX, DRAFT_TAKE_OVER_S, DRAFTS_PER_SESSION_MAX
from isotach.base.types import Inode, Version
from isotach.blockstore.open_draft import OpenDraft

SESSION_BYTES: Final = 16


class DraftNote(msgspec.Struct, array_like=True, frozen=True):
    """What stands beside a draft (format 1; fields are only ever appended): whose it is, and what to do with it."""

    session: bytes
    draft: int
    uid: int
    grant: bytes  # sealed
    length: int = 0
    synced: bool = False  # it is to be published, at `length`, when nobody comes back for it


class HeldDraft:
    """A draft of a session. `lock` is held for as long as a call works on it; `ended` means that it is gone; `used` is
    the version of the last grant by which it was to be published; `was_left`: by an earlier process."""

    __slots__ = ("draft", "ended", "lock", "note", "used", "was_left")

    def __init__(self, draft: OpenDraft, note: DraftNote, *, was_left: bool = False) -> None:
        self.draft = draft  # another object when its folder was away for a while
        self.note = note
        self.lock: Final = threading.Lock()
        self.ended = False
        self.used: Version = 0
        self.was_left: Final = was_left


class DraftSession:
    """One mount. `anchor` is the connection it hangs on; without one it ends at `ends_s`."""

    def __init__(self, key: bytes, uid: int, ends_s: float) -> None:
        self.key: Final = key
        self.uid: Final = uid
        self.anchor: object = None
        self.ends_s = ends_s
        self.drafts: Final[dict[int, HeldDraft]] = {}
        self._outcomes: Final[OrderedDict[int, Inode | None]] = OrderedDict()

    def note_outcome(self, number: int, inode: Inode | None) -> None:
        """A draft was published: a call that is sent again gets the same answer."""
        self._outcomes[number] = inode
        if len(self._outcomes) > DRAFT_OUTCOMES_KEPT_MAX:
            self._outcomes.popitem(last=False)

    def outcome(self, number: int) -> tuple[Inode | None] | None:
        """What came of publishing that draft, if it was."""
        return (self._outcomes[number],) if number in self._outcomes else None


class DraftSessions:
    """Thread-safe. `monotonic_s` is the clock of time-outs."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s: Final = monotonic_s
        self._lock: Final = threading.Lock()
        self._by_key: Final[dict[bytes, DraftSession]] = {}

    def draft_count(self) -> int:
        """Drafts of all sessions."""
        with self._lock:
            return sum(len(session.drafts) for session in self._by_key.values())

    def attach(self, key: bytes, uid: int, anchor: object) -> DraftSession:
        """Opens the session on this connection, or takes it over. Raises InvalidArgumentError, AuthenticationError for
        another user's, UnavailableError when there are too many."""
        if len(key) != SESSION_BYTES:
            raise InvalidArgumentError(f"a session is {SESSION_BYTES} random bytes, not {len(key)}")
        with self._lock:
            session = self._made(key, uid)
            _check_user(session, uid)
            session.anchor = anchor
            return session

    def _made(self, key: bytes, uid: int) -> DraftSession:
        session = self._by_key.get(key)
        if session is None:
            if len(self._by_key) >= DRAFT_SESSIONS_MAX:
                raise UnavailableError(f"{DRAFT_SESSIONS_MAX} mounts write here, which is the limit: unmount some")
            session = self._by_key[key] = DraftSession(key, uid, self._monotonic_s() + DRAFT_TAKE_OVER_S)
        return session

    def detach(self, key: bytes, anchor: object) -> None:
        """The connection ended. No effect when another one has taken the session over."""
        with self._lock:
            session = self._by_key.get(key)
            if session is not None and session.anchor is anchor:
                session.anchor = None
                session.ends_s = self._monotonic_s() + DRAFT_TAKE_OVER_S

    def get(self, key: bytes, uid: int) -> DraftSession:
        """Raises FileNotFoundError when there is none (any more), AuthenticationError for another user's."""
        session = self._by_key.get(key)
        if session is None:
            text = "the worker does not know this session (any more): open it, and write its files to new drafts"
            raise FileNotFoundError(errno.ENOENT, text)
        _check_user(session, uid)
        return session

    def adopt(self, note: DraftNote, draft: OpenDraft) -> bool:
        """Takes in what an earlier process left, or what stands in a folder that is back; False when that draft is
        here already."""
        with self._lock:
            session = self._made(note.session, note.uid)
            known = session.drafts.get(note.draft)
            if known is not None and known.draft.is_lost:
                known.draft = draft
                return True
            if known is not None:
                return False
            session.drafts[note.draft] = HeldDraft(draft, note, was_left=True)
            return True

    def add(self, session: DraftSession, held: HeldDraft) -> None:
        """Raises FileNotFoundError when the session ended meanwhile, UnavailableError when it has too many."""
        with self._lock:
            if self._by_key.get(session.key) is not session:
                raise FileNotFoundError(errno.ENOENT, "the session has just ended: open it again")
            if len(session.drafts) >= DRAFTS_PER_SESSION_MAX:
                text = f"the mount has {DRAFTS_PER_SESSION_MAX} drafts open, which is the limit: close some files"
                raise UnavailableError(text)
            session.drafts[held.note.draft] = held

    def take_ended(self) -> list[DraftSession]:
        """Sessions that nobody took over in time: they are out of the table."""
        now_s = self._monotonic_s()
        with self._lock:
            ended = [each for each in self._by_key.values() if each.anchor is None and each.ends_s <= now_s]
            for session in ended:
                del self._by_key[session.key]
        return ended

    def next_end_s(self, at_most_s: float) -> float:
        """Seconds until the next session may end."""
        now_s = self._monotonic_s()
        with self._lock:
            ends = [each.ends_s for each in self._by_key.values() if each.anchor is None]
        return max(0.0, min([at_most_s, *(end_s - now_s for end_s in ends)]))


def _check_user(session: DraftSession, uid: int) -> None:
    if uid not in (session.uid, 0):
        raise AuthenticationError("this session is another user's: open one of your own")
