"""Takes in what the feed of changes brings: tells the kernel what it remembers wrongly.

Owns: which notifications a change needs. Never: asks for changes (`fuse.feed` does), or runs in another thread than the
feed's: a notification about a name waits for whoever holds the directory's lock in the kernel.

What this mount did itself is passed over: the kernel knows. A name is only called in question, not taken away: whoever
stands in a directory, or has mounted something over it, is not to notice that its attributes changed.
"""

from collections.abc import Sequence
from typing import Final

from isotach.base.types import FileId, Inode, Kind
from isotach.fuse.tree.core import TreeCore
from isotach.wire.messages import Change

_FILE: Final = int(Kind.FILE)


class Listener:
    """For the feed's thread."""

    def __init__(self, core: TreeCore) -> None:
        self._core: Final = core

    def changed(self, changes: Sequence[Change]) -> None:
        """See `contract.ChangeListener`."""
        core = self._core
        attributes: dict[FileId, tuple[Inode, FileId, bytes]] = {}
        names: dict[tuple[FileId, bytes], FileId] = {}  # 0: the name may mean something else; else: this inode lost it
        for change in changes:
            if core.own.is_own(change):
                continue
            inode = change.inode
            place = (change.directory_id, change.name)
            if inode is not None and inode.is_dir and not change.gone_id and core.own.is_own_touch(place, inode):
                continue
            if inode is None:
                names[place] = change.gone_id
                core.own.note_others(change.gone_id)
                core.places.forget(change.gone_id)
            else:
                core.own.note_others(inode.id)
                attributes[inode.id] = inode, change.directory_id, change.name
                if change.directory_id and not core.places.is_at(inode, place):
                    names[place] = 0
            if change.gone_id and (inode is None or inode.id != change.gone_id):
                core.files.changed(change.gone_id, None)
        for inode, directory_id, name in attributes.values():
            if self._tell_attributes(inode) and directory_id:
                names.setdefault((directory_id, name), 0)
        for (directory_id, name), gone_id in names.items():
            self._tell_name(directory_id, name, gone_id)

    def missed(self) -> None:
        """Whatever was known may be wrong."""
        self._core.records.forget_whole()
        self._core.places.clear()
        self._core.own.missed()
        self._core.notifier.inval_all()

    def _tell_attributes(self, inode: Inode) -> bool:
        """True: its name leads to another node now."""
        core = self._core
        is_renewed = inode.kind == _FILE and core.files.changed(inode.id, inode)
        for node in core.nodes.nodes_of(inode.id):
            # Of a directory the kernel's listing goes too; pages of files are for `fuse.files`.
            core.notifier.inval_inode(node, 0 if inode.is_dir else -1)
        return is_renewed

    def _tell_name(self, directory_id: FileId, name: bytes, gone_id: FileId) -> None:
        core = self._core
        for parent in core.nodes.nodes_of(directory_id):
            children = core.nodes.nodes_of(gone_id) if gone_id else ()
            if not children:
                core.notifier.expire_entry(parent, name)
            for child in children:
                core.notifier.delete_entry(parent, child, name)
                core.notifier.inval_inode(child, -1)  # who has it open sees a name less
