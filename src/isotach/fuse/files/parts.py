"""What the open files need of the rest of a mount, in one value.

Owns: the list. Never: makes any of it (`fuse/filesystem.py` composes).
"""

from typing import NamedTuple

from isotach.client.link import Link
from isotach.conf.fuse_settings import FuseSettings
from isotach.fuse.contract import Backings, Later, Locks, Notifier, Tree, Writing


class Parts(NamedTuple):
    """The neighbours. `link` is the client library's; `read_only`: the mount takes no change."""

    link: Link
    settings: FuseSettings
    tree: Tree
    writing: Writing
    locks: Locks
    later: Later
    notifier: Notifier
    backings: Backings
    read_only: bool = False
