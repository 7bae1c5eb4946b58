"""Who is calling: the kernel's word on Unix sockets, the caller's own on TCP.

Owns: `Peer`, and the cached look-up of users and groups. Never: decides what a peer may do.
"""

import grp
import os
import pwd
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from isotach.base.limits import PEER_GROUPS_CACHED_MAX, PEER_GROUPS_TTL_S
from isotach.wire.messages import DirectAccess, Hello

_UCRED: Final = struct.Struct("3i")
_Row = tuple[float, str, tuple[str, ...]]  # good until (monotonic seconds), user, groups
K = TypeVar("K")


class Peer(msgspec.Struct, frozen=True):
    """The caller of a connection. `uid`, `gid` and `pid` are None on TCP; `local` means a Unix socket of this host."""

    user: str
    groups: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    local: bool = False


class UserTable:
    """Names and groups of users, remembered for a minute, at most `PEER_GROUPS_CACHED_MAX` of them."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._by_uid: dict[int, _Row] = {}
        self._by_name: dict[str, _Row] = {}

    def of_uid(self, uid: int, gid: int) -> tuple[str, tuple[str, ...]]:
        """(user name, group names); a uid without an entry is its number, in the group of `gid` alone."""
        row = self._by_uid.get(uid)
        if row is None or row[0] < self._now():
            try:
                entry = pwd.getpwuid(uid)
                name, groups = entry.pw_name, _groups_of(entry.pw_name, entry.pw_gid)
            except KeyError:
                name, groups = str(uid), (_group_name(gid),)
            row = self._remember(self._by_uid, uid, name, groups)
        return row[1], row[2]

    def of_name(self, user: str) -> tuple[str, ...]:
        """The groups of a declared user; none when this host does not know it."""
        row = self._by_name.get(user)
        if row is None or row[0] < self._now():
            try:
                groups = _groups_of(user, pwd.getpwnam(user).pw_gid)
            except (KeyError, ValueError):
                groups = ()
            row = self._remember(self._by_name, user, user, groups)
        return row[2]

    def _remember(self, table: dict[K, _Row], key: K, name: str, groups: tuple[str, ...]) -> _Row:
        if len(table) >= PEER_GROUPS_CACHED_MAX:
            table.clear()
        row = (self._now() + PEER_GROUPS_TTL_S, name, groups)
        table[key] = row
        return row


def peer_of(sock: socket.socket, hello: Hello, users: UserTable) -> Peer:
    """The peer of a connected socket that said `hello`."""
    if sock.family != socket.AF_UNIX:
        return Peer(hello.user, users.of_name(hello.user))
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    user, groups = users.of_uid(uid, gid)
    return Peer(user, groups, uid, gid, pid, local=True)


def direct_access(peer: Peer, folders: Sequence[str], cluster: bytes = b"") -> DirectAccess | None:
    """What a welcome tells of our folders: nothing, unless the kernel lets the caller read them anyway. Such
    a caller is a superuser for us, too (`master.identity`), so that no rule is passed by. A process cannot open a store
    that it serves, so it is not told either."""
    if not peer.local or peer.uid not in (0, os.geteuid()) or peer.pid is None or peer.pid in (0, os.getpid()):
        return None
    return DirectAccess(peer.pid, list(folders), cluster) if folders else None


def current_user() -> str:
    """The name under which this process calls over TCP."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _groups_of(user: str, gid: int) -> tuple[str, ...]:
    return tuple(_group_name(number) for number in os.getgrouplist(user, gid))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
