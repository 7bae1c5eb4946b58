"""Who acts.

Owns: the value. Never: finds out who that is (`net` and the services do).
"""

from typing import Final

import msgspec


class Actor(msgspec.Struct, frozen=True):
    """A user, the groups the user is in, and whether the rules apply at all."""

    user: str
    groups: frozenset[str] = frozenset()
    superuser: bool = False
    uid: int = -1  # the numbers of user and groups, as access control lists name them; -1: not known
    gids: frozenset[int] = frozenset()


#: Acts for the system itself: synchronisation, time to live, recovery.
SYSTEM: Final = Actor("isotach", frozenset(), True)
