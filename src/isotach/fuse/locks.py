"""Locks of programs, as the kernel asks for them: fcntl's record locks and flock, held across all mounts.

Owns: GETLK, SETLK and SETLKW, and what is given up when files are closed. Never: keeps a session or knows who else has
locks (`lock_session.py`, the master).

Every lock is the master's truth, also between two programs of one mount. The kernel keeps none of its own: the end of
record locks comes with FLUSH, that of flock with RELEASE. What it does not send at all, the end of open-file locks
(F_OFD_SETLK) and of locks on files whose FLUSH is spared, is noticed here by the open file through which they came.
"""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from isotach.base.errors import IsotachError
from isotach.base.limits import FUSE_WAITING_THREADS_MAX, LOCK_WAIT_MS
from isotach.base.lock_ranges import LOCK_END_MAX, LOCK_NONE, Held, LockKey
from isotach.base.types import FileId
from isotach.client.link import Link
from isotach.fuse.contract import NODE_SHIFT, Handler, Later, LockedFiles, Reply, Request
from isotach.fuse.lock_session import LockSession
from isotach.fuse.protocol import replies
from isotach.fuse.protocol.constants import LK_FLOCK, Opcode
from isotach.fuse.protocol.requests import decode_lock
from isotach.net.blocking_channel import BlockingChannel
from isotach.net.retry import RetryPolicy
from isotach.obs.log import get_logger

_log: Final = get_logger("fuse.locks")
_FILE_ID_MASK: Final = (1 << NODE_SHIFT) - 1
_DONE: Final = b""
_SESSION_BYTES: Final = 16


class ClusterLocks:
    """`contract.Locks` with `fuse.locks=cluster`."""

    def __init__(self, session: LockSession, session_id: bytes, later: Later) -> None:
        self.session: Final = session
        self._id: Final = session_id
        self._later: Final = later
        self._closing = threading.Event()

    def handlers(self) -> dict[int, Handler]:
        """By opcode."""
        return {Opcode.GETLK: self.getlk, Opcode.SETLK: self.setlk, Opcode.SETLKW: self.setlkw}

    def serve(self, files: LockedFiles, catch_up: Callable[[int, int], bool]) -> None:
        """Contents go from mount to mount with the locks, and names are as new (`Feed.catch_up`). Before the first
        request."""
        self.session.files = files
        self.session.catch_up = catch_up

    def resume(self) -> None:
        """For a process that takes the place of one that died: what that held is held by this one. Never raises."""
        try:
            self.session.resume()
        except (IsotachError, OSError) as problem:
            _log.warning("locks_not_resumed", reason=str(problem))

    def hurry(self) -> None:
        """The master may have restarted: it is told what is held as soon as it answers."""
        self.session.hurry()

    def close(self) -> None:
        """Ends those who wait, and gives up everything."""
        self._closing.set()
        self.session.close()

    # --- requests ---

    def getlk(self, request: Request) -> Reply:
        """F_GETLK."""
        self._later.run("tree", request, self._test)
        return None

    def setlk(self, request: Request) -> Reply:
        """F_SETLK, and flock with LOCK_NB or LOCK_UN."""
        self._later.run("tree", request, self._set)
        return None

    def setlkw(self, request: Request) -> Reply:
        """F_SETLKW and flock. Giving up never waits."""
        gives_up = decode_lock(request.body).kind == LOCK_NONE
        self._later.run("tree" if gives_up else "wait", request, self._set if gives_up else self._wait)
        return None

    def _test(self, request: Request) -> Reply:
        blocker = self.session.test(*self._wanted(request))
        if blocker is None:
            return replies.lock(0, 0, LOCK_NONE, 0)
        return replies.lock(blocker.start, blocker.end, blocker.kind, blocker.pid)

    def _set(self, request: Request) -> Reply:
        key, wanted = self._wanted(request)
        if wanted.kind == LOCK_NONE:
            self.session.give_up(key, wanted)
        else:
            self.session.take(key, wanted, 0)
        return _DONE

    def _wait(self, request: Request) -> Reply:
        key, wanted = self._wanted(request)
        interrupted = threading.Event()
        self._later.on_interrupt(request, interrupted.set)
        while not interrupted.is_set() and not self._closing.is_set():
            try:
                self.session.take(key, wanted, LOCK_WAIT_MS)
            except BlockingIOError:
                continue
            return _DONE
        raise InterruptedError(errno.EINTR, "a signal ended the wait for a lock")

    def _wanted(self, request: Request) -> tuple[LockKey, Held]:
        asked = decode_lock(request.body)
        is_flock = bool(asked.flags & LK_FLOCK)
        start, end = (0, LOCK_END_MAX) if is_flock else (asked.start, min(asked.end, LOCK_END_MAX))
        held = Held(start, end, asked.kind, asked.pid, (self._id, asked.owner), asked.handle)
        return (request.node & _FILE_ID_MASK, is_flock), held

    # --- files that are closed ---

    def holds(self, file_id: FileId, owner: int) -> bool:
        """Whether `flushed` has anything to do."""
        return self.session.has_to_do_with((file_id, False), (self._id, owner))

    def any_held(self, file_id: FileId) -> bool:
        """Whether programs of this mount hold record locks on the file."""
        return self.session.held.any((file_id, False))

    def flushed(self, file_id: FileId, owner: int) -> None:
        """A process closed a descriptor of the file: its record locks on it end, whichever descriptor they came by. May
        take long where `holds`."""
        key: LockKey = (file_id, False)
        who = (self._id, owner)
        self.session.forget_lost(key, who)
        if self.session.held.holds(key, who):
            self.session.give_up(key, Held(0, LOCK_END_MAX, LOCK_NONE, 0, who))

    def released(self, file_id: FileId, handle: int, owner: int, flock: bool) -> None:
        """The last descriptor of an open went: its flock ends, and what record locks came by it. Never waits."""
        if flock:
            self.session.give_up_soon((file_id, True), Held(0, LOCK_END_MAX, LOCK_NONE, 0, (self._id, owner)))
        key: LockKey = (file_id, False)
        for held in self.session.held.taken_through(key, handle):
            self.session.give_up_soon(key, held)


class KernelLocks:
    """`contract.Locks` with `fuse.locks=local`: the kernel keeps locks among the programs of this mount; nobody else is
    to be told."""

    def handlers(self) -> dict[int, Handler]:
        """None: the kernel asks for no lock."""
        return {}

    def serve(self, files: LockedFiles, catch_up: Callable[[int, int], bool]) -> None: ...

    def resume(self) -> None: ...

    def hurry(self) -> None: ...

    def close(self) -> None: ...

    def holds(self, file_id: FileId, owner: int) -> bool:
        return False

    def any_held(self, file_id: FileId) -> bool:
        return False

    def flushed(self, file_id: FileId, owner: int) -> None: ...

    def released(self, file_id: FileId, handle: int, owner: int, flock: bool) -> None: ...


def cluster_locks(link: Link, later: Later, session: bytes, timeout_s: float) -> ClusterLocks:
    """Locks at the master of `link`, over connections of their own: those who wait hold one each."""
    channel = BlockingChannel(
        [link.address],
        user=link.settings.user,
        client="mount",
        policy=RetryPolicy(total_s=timeout_s, first_connect_s=timeout_s),
        connections_max=FUSE_WAITING_THREADS_MAX,
    )
    return ClusterLocks(LockSession(channel, session, timeout_s), session, later)


def kept_session(file: Path, *, is_restart: bool) -> bytes:
    """The session of a mount: a new one, noted in `file`, or after a restart of its serving process the one noted."""
    if is_restart:
        try:
            kept = file.read_bytes()
        except FileNotFoundError:
            kept = b""
        if len(kept) == _SESSION_BYTES:
            return kept
    session = os.urandom(_SESSION_BYTES)
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as out:
        out.write(session)
    return session
