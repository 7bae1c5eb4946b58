"""What the handlers of names and attributes share: nodes, records, owners, time-outs, and files that lost their name.

Owns: building the replies about entries, and what other parts ask of the tree (`contract.Tree`). Never: decodes
requests.
"""

import errno
import os
import threading
from typing import Final

import msgspec

from isotach.base.errors import os_error
from isotach.base.limits import NAMELESS_FILES_MAX
from isotach.base.types import FileId, Inode, Kind
from isotach.client.direct.entries import Sight
from isotach.fuse.contract import Files, Later, LiveFile, Notifier, Request
from isotach.fuse.protocol import replies
from isotach.fuse.tree.attributes import Shown, attributes_of
from isotach.fuse.tree.known_places import KnownPlaces
from isotach.fuse.tree.lasting import Lasting
from isotach.fuse.tree.nodes import Nodes
from isotach.fuse.tree.own_changes import OwnChanges
from isotach.fuse.tree.owners import Owners
from isotach.fuse.tree.records import Calls, Records
from isotach.fuse.tree.turns import Turns
from isotach.wire.messages import StatReply

_FILE: Final = int(Kind.FILE)
_READ: Final = 4
_NEVER_MS: Final = -1


def gone(file_id: FileId) -> OSError:
    """What is answered about an inode that does not exist any more."""
    return os_error(errno.ESTALE, f"the entry (id {file_id}) was removed: look its name up again")


class TreeCore:
    """For many threads. `files` is set before the first request comes."""

    def __init__(
        self,
        nodes: Nodes,
        calls: Calls,
        lasting: Lasting,
        shown: Shown,
        later: Later,
        notifier: Notifier,
        threads: int,
    ) -> None:
        self.nodes: Final = nodes
        self.calls: Final = calls
        self.records: Final = Records(calls)
        self.lasting: Final = lasting
        self.later: Final = later
        self.notifier: Final = notifier
        self.turns: Final = Turns(later, threads)
        self.owners: Final = Owners()
        self.own: Final = OwnChanges()
        self.places: Final = KnownPlaces()
        self.files: Files
        self._shown: Final = shown
        self._for_others: Final = os.geteuid() == 0
        self._lock: Final = threading.Lock()
        self._nameless: Final[dict[FileId, Inode]] = {}

    # --- contract.Tree ---

    def inode(self, file_id: FileId) -> Inode:
        """The newest record. May ask the master. Raises FileNotFoundError when it is gone."""
        inode = self.sight(file_id).inode
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, f"there is no file with the id {file_id}: it was removed")
        return inode

    def inode_now(self, file_id: FileId) -> Inode | None:
        """The newest record if it is at hand. Raises FileNotFoundError when it is gone."""
        sight = self.records.inode_now(file_id)
        if sight is None:
            return None
        if sight.inode is None:
            raise FileNotFoundError(errno.ENOENT, f"there is no file with the id {file_id}: it was removed")
        return sight.inode

    def granted(self, file_id: FileId) -> StatReply:
        """The record with a grant to read it, from the master. May take long. Raises FileNotFoundError."""
        return self.records.granted(file_id, _READ)

    def note(self, inode: Inode) -> None:
        """A record that this mount has just made by publishing content: no news when the feed brings it, and the
        attributes that the kernel has are void."""
        self.own.note(inode)
        for node in self.nodes.nodes_of(inode.id):
            self.notifier.inval_inode(node, -1)

    def current_node(self, file_id: FileId) -> int:
        """The node that a lookup of the file gives now."""
        return self.nodes.node_to_open(file_id)

    def renew(self, file_id: FileId) -> int:
        """Another node for the file, from the next lookup on."""
        return self.nodes.renew(file_id)

    # --- for the handlers ---

    def sight(self, file_id: FileId) -> Sight:
        """The newest record of an id, by call if need be."""
        return self.records.inode_now(file_id) or self.records.inode_asked(file_id)

    def live(self, inode: Inode) -> LiveFile | None:
        """The file as it is being written here."""
        return self.files.live(inode.id) if inode.kind == _FILE else None

    def attributes(self, inode: Inode) -> replies.Attributes:
        """What stat(2) shows of it now."""
        return attributes_of(inode, self.live(inode), self.owners, self._shown)

    def entry(self, inode: Inode, interval_ms: int = _NEVER_MS) -> bytes:
        """The `fuse_entry_out` of an entry, which gives the kernel a reference."""
        if inode.kind == _FILE:
            self.files.seen(inode)
        node = self.nodes.remember(inode.id, inode.kind == _FILE)
        if self.own.changed_by_others(inode.id):
            # It changed while this was answered: what was read may be from before.
            sight = self.records.inode_now(inode.id)
            inode = inode if sight is None or sight.inode is None else sight.inode
        lasting = self.lasting
        attributes = self.attributes(inode)
        return replies.entry(node, attributes, lasting.entry(interval_ms), lasting.attr(interval_ms))

    def attr(self, inode: Inode, interval_ms: int = _NEVER_MS) -> bytes:
        """The `fuse_attr_out` of an inode."""
        return replies.attr(self.attributes(inode), self.lasting.attr(interval_ms))

    def caller(self, request: Request) -> tuple[str, str]:
        """The owner and group of what this request makes; empty where all is made as the mount's own user."""
        if not self._for_others:
            return "", ""
        self.owners.age()
        return self.owners.user(request.uid), self.owners.group(request.gid)

    # --- files without a name ---

    def nameless(self, file_id: FileId) -> Inode | None:
        """The last record of a file whose name is gone, while the kernel knows it."""
        return self._nameless.get(file_id) if self._nameless else None

    def keep_nameless(self, inode: Inode) -> None:
        """The last name of this file is gone; who has it open goes on seeing it."""
        if not self.nodes.is_known(inode.id):
            return
        with self._lock:
            if len(self._nameless) >= NAMELESS_FILES_MAX:
                del self._nameless[next(iter(self._nameless))]
            self._nameless[inode.id] = msgspec.structs.replace(inode, links=0)

    def change_nameless(self, file_id: FileId, inode: Inode) -> None:
        """fchmod and its like on such a file."""
        with self._lock:
            if file_id in self._nameless:
                self._nameless[file_id] = inode

    def drop_nameless(self, file_id: FileId) -> None:
        """It has a name after all."""
        with self._lock:
            self._nameless.pop(file_id, None)

    def forget(self, node: int, count: int) -> None:
        """The kernel gives references back."""
        if self.nodes.forget(node, count) and self._nameless:
            self.drop_nameless(self.nodes.file_id(node))
