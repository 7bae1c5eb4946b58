"""From a connection's peer to the actor that the namespace's rules know.

Owns: who is a superuser: whoever runs the master, root, the configured user, and members of the supergroup. Never:
authenticates (`net.peer` asks the kernel; tokens come later).
"""

import contextlib
import grp
import os
import pwd
from functools import lru_cache

from isotach.namespace.actor import Actor
from isotach.net.peer import Peer, current_user

_REMEMBERED_MAX = 4096


class Identity:
    """Actors by peer, remembered. With `enforced` False everybody may do everything, under their own name."""

    def __init__(self, superuser: str, supergroup: str, *, enforced: bool = True) -> None:
        self.superusers = frozenset({superuser, current_user(), "root"})
        self._supergroup = supergroup
        self._enforced = enforced
        self._actors: dict[tuple[str, tuple[str, ...], int | None], Actor] = {}

    def actor(self, peer: Peer) -> Actor:
        """Who acts when `peer` calls."""
        key = (peer.user, peer.groups, peer.uid)
        actor = self._actors.get(key)
        if actor is None:
            if len(self._actors) >= _REMEMBERED_MAX:
                self._actors.clear()
            actor = self._actors[key] = numbered(
                Actor(peer.user, frozenset(peer.groups), self.is_superuser(peer)), peer.uid
            )
        return actor

    def is_superuser(self, peer: Peer) -> bool:
        """Whether no rule applies to this peer."""
        if not self._enforced or peer.user in self.superusers or self._supergroup in peer.groups:
            return True
        return peer.uid is not None and peer.uid in (0, os.geteuid())


def numbered(actor: Actor, uid: int | None = None) -> Actor:
    """The actor with the numbers that access control lists know it by: those of this host's accounts of these names.
    Who has none here is met by no entry for a user or group. Superusers need none."""
    if actor.superuser:
        return actor
    known, gids = _numbers(actor.user, actor.groups)
    return Actor(actor.user, actor.groups, False, known if uid is None else uid, gids)


@lru_cache(maxsize=_REMEMBERED_MAX)
def _numbers(user: str, groups: frozenset[str]) -> tuple[int, frozenset[int]]:
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        uid = -1
    gids = set()
    for name in groups:
        with contextlib.suppress(KeyError):
            gids.add(grp.getgrnam(name).gr_gid)
    return uid, frozenset(gids)
