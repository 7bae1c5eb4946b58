"""Where this client runs, and what its settings and a path's policy make of it when a worker is chosen.

Owns: putting settings, path policy and place together, for reads and for writes. Never: ranks workers (`routing`).
"""

import itertools
import os
import socket
from functools import lru_cache
from typing import Final

from isotach.base.locality import tiers_of
from isotach.base.types import Inode
from isotach.client.routing import ReadRule
from isotach.conf import ClientSettings

_turns: Final = itertools.count()


@lru_cache(maxsize=16)
def locality_of(text: str) -> tuple[tuple[str, str], ...]:
    """The tiers of a client whose setting `client.locality` is `text`."""
    return tuple(tiers_of(text, socket.gethostname()))


def read_rule(settings: ClientSettings, inode: Inode) -> ReadRule:
    """How a worker is chosen for reading this file: the path's policy goes before the client's."""
    of_path = "" if inode.policy is None else inode.policy.read_placement
    policy = of_path or settings.read_location_policy
    return ReadRule(
        policy,
        settings.read_location_host or "",
        settings.read_hash_shards,
        locality_of(settings.locality),
        next(_turns) if policy == "ROUND_ROBIN" else 0,
        inode.id,
        _asker(os.getpid()),
    )


@lru_cache(maxsize=2)
def _asker(_pid: int) -> bytes:
    """Another one in every process, forked ones included."""
    return os.urandom(4)
