"""Owners by name, as the namespace has them, and by number, as the kernel wants them.

Owns: the translation both ways, remembered for a minute. Never: decides who may do what (the kernel does).

A name that this machine does not know is nobody's (65534); a number without a name is kept as its digits, and digits
are a number again.
"""

import grp
import pwd
import time
from collections.abc import Callable
from typing import Final, TypeVar

from isotach.base.limits import OWNERS_AGE_S, OWNERS_REMEMBERED_MAX

NOBODY: Final = 65_534
_ID_MAX: Final = (1 << 32) - 2
K = TypeVar("K", str, int)
V = TypeVar("V", str, int)


def _uid_of_name(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid_of_name(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _name_of_uid(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


def _name_of_gid(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


def _number_of(ask: Callable[[str], int], name: str) -> int:
    try:
        return ask(name)
    except (KeyError, OSError, ValueError):
        if name.isascii() and name.isdigit() and int(name) <= _ID_MAX:
            return int(name)
        return NOBODY


def _text_of(ask: Callable[[int], str], number: int) -> str:
    try:
        return ask(number)
    except (KeyError, OSError, OverflowError):
        return str(number)


class Owners:
    """For many threads. The tables are those of this machine, or what is given (for tests); `now_s` is monotonic."""

    def __init__(
        self,
        *,
        uid_of_name: Callable[[str], int] = _uid_of_name,
        gid_of_name: Callable[[str], int] = _gid_of_name,
        name_of_uid: Callable[[int], str] = _name_of_uid,
        name_of_gid: Callable[[int], str] = _name_of_gid,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now_s: Final = now_s
        self._uids: dict[str, int] = {}
        self._gids: dict[str, int] = {}
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._asked: Final = (uid_of_name, gid_of_name, name_of_uid, name_of_gid)
        self._fresh_until_s = now_s() + OWNERS_AGE_S

    def age(self) -> None:
        """Forgets what is older than a minute: users come and go. Called now and then, not for each name."""
        if self._now_s() >= self._fresh_until_s:
            self._fresh_until_s = self._now_s() + OWNERS_AGE_S
            self._uids, self._gids, self._users, self._groups = {}, {}, {}, {}

    def uid(self, owner: str) -> int:
        """The number of a user's name."""
        found = self._uids.get(owner)
        return _kept(self._uids, owner, _number_of(self._asked[0], owner)) if found is None else found

    def gid(self, group: str) -> int:
        """The number of a group's name."""
        found = self._gids.get(group)
        return _kept(self._gids, group, _number_of(self._asked[1], group)) if found is None else found

    def user(self, uid: int) -> str:
        """The name of a user's number."""
        found = self._users.get(uid)
        return _kept(self._users, uid, _text_of(self._asked[2], uid)) if found is None else found

    def group(self, gid: int) -> str:
        """The name of a group's number."""
        found = self._groups.get(gid)
        return _kept(self._groups, gid, _text_of(self._asked[3], gid)) if found is None else found


def _kept(table: dict[K, V], key: K, value: V) -> V:
    if len(table) >= OWNERS_REMEMBERED_MAX:
        table.clear()
    table[key] = value
    return value
