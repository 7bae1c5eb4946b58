"""The master's own stores, read beside it: what a path is, and how much of it is cached.

Owns: the two environments and the memory of directories. Never: answers for what only an under storage knows (a missing
path, a mount that is asked at intervals): then it has no answer.
"""

from pathlib import Path
from typing import Final

import msgspec

from isotach.base.types import CacheState, Inode
from isotach.client.direct.entries import DirectEntries
from isotach.kv.shared_reader import SharedReader, acquire
from isotach.namespace import keys
from isotach.namespace.actor import Actor
from isotach.namespace.lookup import Missing, Resolved
from isotach.namespace.remembering import find
from isotach.wire.messages import StatReply

SOFT_FORMAT_VERSION: Final = 1
_NEVER_MS: Final = -1
_decode_state: Final = msgspec.msgpack.Decoder(CacheState).decode


class DirectMetadata:
    """The stores in these folders, for one superuser. Raises OSError or StoreError from every call."""

    def __init__(self, namespace: Path, cache_states: Path, user: str) -> None:
        self._actor: Final = Actor(user, frozenset(), True)
        self._namespace: Final = acquire(namespace, keys.FORMAT_VERSION)
        self.entries: Final = DirectEntries(self._namespace)
        self._states_path: Final = cache_states
        self._states: SharedReader | None = None  # a master makes it anew at its start
        #: (number of a commit, directories found in it), replaced as a whole: threads may see different commits
        self._known: tuple[int, dict[bytes, Resolved]] = (-1, {})

    def is_current(self) -> bool:
        """Whether the master still has these stores."""
        return self._namespace.is_current()

    def find(self, path: bytes, interval_ms: int | None) -> Resolved | None:
        """The entry at the canonical `path` as of the newest commit; None when the master must be asked: it is not
        there, or its under storage may be asked. `interval_ms` as in `StatRequest`."""
        if interval_ms is not None and interval_ms != _NEVER_MS:
            return None
        snapshot = self._namespace.look()
        try:
            number = snapshot.number()
            known = self._known
            if known[0] != number:
                known = self._known = (number, {})
            found = find(snapshot, known[1], path, self._actor)
        finally:
            self._namespace.end(snapshot)
        if isinstance(found, Missing) or found.inode.is_symlink:
            return None
        if interval_ms is None and found.mount is not None and found.mount.metadata_sync_interval_ms != _NEVER_MS:
            return None
        return found

    def stat(self, path: bytes, interval_ms: int | None) -> StatReply | None:
        """As the master would answer, without a grant."""
        found = self.find(path, interval_ms)
        if found is None:
            return None
        uri = None if found.mount is None else found.mount.ufs_uri_of(found.relative)
        return StatReply(found.inode, self._state_of(found.inode), uri)

    def _state_of(self, inode: Inode) -> CacheState | None:
        if not inode.length:
            return None
        states = self._states
        if states is None or not states.is_current():
            states = self._states = self._reopened(states)
        snapshot = states.look()
        try:
            raw = snapshot.get(inode.version.to_bytes(8, "big"))
        finally:
            states.end(snapshot)
        return None if raw is None else _decode_state(raw)

    def _reopened(self, before: SharedReader | None) -> SharedReader:
        self._states = None
        if before is not None:
            before.release()
        return acquire(self._states_path, SOFT_FORMAT_VERSION)

    def close(self) -> None:
        """Gives the stores back."""
        self._namespace.release()
        states, self._states = self._states, None
        if states is not None:
            states.release()
