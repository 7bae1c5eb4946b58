"""Whose bytes the kernel's page cache holds for a node: what decides whether an open may keep them.

Owns: the version last served by the daemon for each node. Never: invalidates anything.
"""

from typing import Final

from isotach.base.limits import FUSE_KEPT_VERSIONS_MAX
from isotach.base.types import Version


class KeptPages:
    """A bounded memory; what it forgot is read again. Single operations of a dict need no lock."""

    def __init__(self) -> None:
        self._versions: Final[dict[int, Version]] = {}

    def are_of(self, node: int, version: Version) -> bool:
        """Whether the pages of the node are of this version."""
        return self._versions.get(node) == version

    def note(self, node: int, version: Version) -> None:
        """They are, from now on."""
        if len(self._versions) >= FUSE_KEPT_VERSIONS_MAX and node not in self._versions:
            self._versions.clear()
        self._versions[node] = version

    def forget(self, node: int) -> None:
        """They may be anything."""
        self._versions.pop(node, None)
