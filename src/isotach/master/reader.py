"""The read side of the master: STAT, LIST, MOUNTS, LOCATIONS and RESOLVE_ID, from snapshots alone.

Owns: these answers, and the decision that the under storage must be asked first. Never: changes the namespace, or asks
a store itself: `forward` (the master's SYNC) does. Runs in every reader process and in the master.

Handlers are plain functions that answer at once; only when the store must be asked do they return a coroutine, which
waits for `forward` and answers from a fresh snapshot.
"""

import errno
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast

import msgspec

from isotach.base.errors import DataLossError
from isotach.base.limits import LIST_PAGE_BYTES_MAX, LIST_PAGE_ENTRIES_MAX
from isotach.base.types import HARD_LINKS_ID, BlockHolder, CacheState, Flag, Kind, Mount
from isotach.kv.interface import RenewableSnapshot
from isotach.master.grants import read_grant
from isotach.master.lookup import ReadLookup
from isotach.namespace import keys, permissions
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.lookup import Missing, Resolved, not_found, path_of, resolve
from isotach.namespace.lost import loss_text, record_of
from isotach.namespace.mounts import mount_table
from isotach.namespace.records import decode_inode_head
from isotach.net.dispatch import Dispatcher, Reply
from isotach.net.peer import Peer
from isotach.wire import messages
from isotach.wire.grants import seal
from isotach.wire.messages import (
    Empty,
    ListReply,
    ListRequest,
    LocationsReply,
    LocationsRequest,
    MountsReply,
    PathReply,
    ResolveIdRequest,
    StatReply,
    StatRequest,
    SyncRequest,
)

#: Brings the namespace up to date; raises what the under storage's failure is.
Forward = Callable[[SyncRequest, Peer], Awaitable[object]]


_decode_state: Final = msgspec.msgpack.Decoder(CacheState).decode
_NIL: Final = b"\xc0"
_HARD_LINK: Final = int(Kind.HARD_LINK)
#: Of a `ListEntry`, up to its name: an array of three, and bytes of that length.
_ENTRY_STARTS: Final = tuple(b"\x93\xc4" + bytes([length]) for length in range(256))


class ReadService:
    """See the module. For one event loop; call `renew` before each batch of calls (`Dispatcher.before_batch`).

    `actor_of` gives the actor for a peer, `secret` seals grants, `mask` hides the secrets in mount options, `now_s` is
    wall time in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        namespace: RenewableSnapshot,
        cache_states: RenewableSnapshot,
        secret: bytes,
        actor_of: Callable[[Peer], Actor],
        forward: Forward,
        mask: Callable[[dict[str, str]], dict[str, str]],
        now_s: Callable[[], float],
    ) -> None:
        self._lookup: Final = ReadLookup(namespace)
        self._cache_states: Final = cache_states
        self._secret: Final = secret
        self._actor_of: Final = actor_of
        self._forward: Final = forward
        self._mask: Final = mask
        self._now_s: Final = now_s

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Serves the five methods there."""
        dispatcher.add(messages.STAT, self.stat)
        dispatcher.add(messages.LIST, self.list)
        dispatcher.add(messages.MOUNTS, self.mounts)
        dispatcher.add(messages.LOCATIONS, self.locations)
        dispatcher.add(messages.RESOLVE_ID, self.resolve_id)

    def renew(self) -> None:
        """Steps to the newest committed state; everything acknowledged before is in it."""
        self._lookup.renew()
        self._cache_states.renew()

    # --- STAT ---

    def stat(self, request: StatRequest, peer: Peer) -> StatReply | Coroutine[Any, Any, StatReply]:
        """Raises FileNotFoundError, NotADirectoryError, PermissionError."""
        actor = self._actor_of(peer)
        found = self._lookup.named(request.path, actor, request.follow)
        if _must_ask(found, request.sync_interval_ms):
            return self._stat_after_sync(found.path, request, actor, peer)
        return self._stat_reply(found, request, actor)

    async def _stat_after_sync(self, path: bytes, request: StatRequest, actor: Actor, peer: Peer) -> StatReply:
        await self._forward(SyncRequest(path, False, request.sync_interval_ms), peer)
        self.renew()
        return self._stat_reply(self._lookup.named(request.path, actor, request.follow), request, actor)

    def _stat_reply(self, found: Resolved | Missing, request: StatRequest, actor: Actor) -> StatReply:
        if isinstance(found, Missing):
            raise not_found(found.path)
        inode = found.inode
        grant = b""
        if request.access:
            permissions.check(inode, actor, request.access, found.path)
            if request.access & permissions.READ and inode.is_file:
                if inode.flags & Flag.LOST:
                    text = loss_text(record_of(self._lookup.view, inode.id))
                    raise DataLossError(errno.EIO, text, os.fsdecode(found.path))
                grant = self._read_grant(found, actor)
        state = None
        if inode.length:
            raw = self._cache_states.get(inode.version.to_bytes(8, "big"))
            # sent as it is stored
            state = None if raw is None else cast(CacheState, msgspec.Raw(raw))
        uri = None if found.mount is None else found.mount.ufs_uri_of(found.relative)
        return StatReply(inode, state, uri, grant)

    def _read_grant(self, found: Resolved, actor: Actor) -> bytes:
        if found.inode.links > 1:  # the under storage has it under its first name
            found = resolve(self._lookup.view, path_of(self._lookup.view, found.inode.id), SYSTEM)
        return seal(self._secret, read_grant(found, self._now_s(), actor.user))

    # --- LIST ---

    def list(self, request: ListRequest, peer: Peer) -> Reply[ListReply] | Coroutine[Any, Any, Reply[ListReply]]:
        """Raises FileNotFoundError, NotADirectoryError, PermissionError (`r` on the directory). Only the first page
        asks the under storage."""
        actor = self._actor_of(peer)
        found = self._lookup.named(request.path, actor)
        if not request.start_after and _must_ask(found, request.sync_interval_ms, children=True):
            return self._list_after_sync(found.path, request, actor, peer)
        return self._list_reply(found, request, actor)

    async def _list_after_sync(self, path: bytes, request: ListRequest, actor: Actor, peer: Peer) -> Reply[ListReply]:
        await self._forward(SyncRequest(path, True, request.sync_interval_ms), peer)
        self.renew()
        return self._list_reply(self._lookup.named(request.path, actor), request, actor)

    def _list_reply(self, found: Resolved | Missing, request: ListRequest, actor: Actor) -> Reply[ListReply]:
        if isinstance(found, Missing):
            raise not_found(found.path)
        uri = None if found.mount is None else found.mount.ufs_uri_of(found.relative)
        if not found.inode.is_dir:
            entry = messages.ListEntry(b"", found.inode, self._state_of(found.inode.version))
            return Reply(ListReply(False, uri), msgspec.msgpack.encode([entry]))
        permissions.check(found.inode, actor, permissions.READ, found.path)
        limit = max(1, min(request.limit, LIST_PAGE_ENTRIES_MAX))
        count, parts, more = self._page(found.inode.id, request.start_after, limit)
        return Reply(ListReply(more, uri), b"\xdd" + count.to_bytes(4, "big") + b"".join(parts))

    def _page(self, directory_id: int, start_after: bytes, limit: int) -> "tuple[int, _Parts, bool]":
        """(number, encoded entries, whether more follow). Records and states are copied as they are stored."""
        parts: _Parts = []
        add = parts.append
        state_of = self._cache_states.get
        prefix = keys.ENTRY_PREFIX_BYTES
        count = size = 0
        for key, raw in self._lookup.snapshot.scan(*keys.entries_after(directory_id, start_after)):
            if count == limit or size > LIST_PAGE_BYTES_MAX:
                return count, parts, True
            name = key[prefix:]
            head = decode_inode_head(raw)
            if head.kind == _HARD_LINK:
                raw = self._lookup.snapshot.get(keys.entry(HARD_LINKS_ID, keys.number(head.id))) or raw  # noqa: PLW2901
                head = decode_inode_head(raw)
            state = (head.length and state_of(head.version.to_bytes(8, "big"))) or _NIL
            add(_ENTRY_STARTS[len(name)])
            add(name)
            add(raw)
            add(state)
            count += 1
            size += len(raw) + len(state)
        return count, parts, False

    # --- the others ---

    def mounts(self, _request: Empty, _peer: Peer) -> MountsReply:
        """The mount table, sorted by path."""
        rows = sorted(mount_table(self._lookup.view).values(), key=lambda mount: mount.path)
        return MountsReply([self._masked(mount) for mount in rows])

    def _masked(self, mount: Mount) -> Mount:
        return msgspec.structs.replace(mount, options=self._mask(mount.options))

    def locations(self, request: LocationsRequest, _peer: Peer) -> LocationsReply:
        """Who holds what of each version; nobody, for one that is unknown."""
        return LocationsReply([self._holders_of(version) for version in request.versions])

    def _holders_of(self, version: int) -> "_Holders":
        state = self._state_of(version)
        return [] if state is None else state.holders

    def _state_of(self, version: int) -> CacheState | None:
        raw = self._cache_states.get(version.to_bytes(8, "big"))
        return None if raw is None else _decode_state(raw)

    def resolve_id(self, request: ResolveIdRequest, peer: Peer) -> PathReply:
        """The present path of a file id. Raises FileNotFoundError, PermissionError (as looking the path up would)."""
        path = path_of(self._lookup.view, request.id)
        resolve(self._lookup.view, path, self._actor_of(peer))
        return PathReply(path)


_Parts = list[bytes]
_Holders = list[BlockHolder]


def _must_ask(found: Resolved | Missing, interval_ms: int | None, *, children: bool = False) -> bool:
    """Whether the under storage decides: for what is not here, for a directory never listed, and where the interval is
    not -1 (the master knows when it last asked, and answers at once if that is recent enough)."""
    if isinstance(found, Missing):
        return found.parent.mount is not None
    mount = found.mount
    if mount is None:
        return False
    if children and found.inode.is_dir and not found.inode.flags & Flag.CHILDREN_LOADED:
        return True
    return (mount.metadata_sync_interval_ms if interval_ms is None else interval_ms) != -1
