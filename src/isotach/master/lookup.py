"""Finding a path fast, on the read side: one get for the last component when its directory was found before.

Owns: the memory of directories, good for one committed state. Never: changes anything. The rules (search permission on
every ancestor) are those of `namespace.lookup`, which does the walk.
"""

from typing import Final

from isotach.base.limits import ACTORS_REMEMBERED_MAX, DIRECTORIES_REMEMBERED_MAX
from isotach.base.paths import relative_to
from isotach.kv.interface import RenewableSnapshot
from isotach.namespace import keys
from isotach.namespace.actor import Actor
from isotach.namespace.lookup import Missing, Resolved, mount_of, not_a_directory, try_resolve
from isotach.namespace.permissions import EXECUTE, check
from isotach.namespace.records import decode_inode
from isotach.namespace.view import View


class ReadLookup:
    """Lookups on a snapshot that steps forward with `renew`."""

    def __init__(self, snapshot: RenewableSnapshot) -> None:
        self.snapshot: Final = snapshot
        self.view: Final = View(snapshot)
        self._commit = snapshot.renew()
        self._of_superusers: dict[bytes, Resolved] = {}
        self._of_actors: dict[Actor, dict[bytes, Resolved]] = {}

    def renew(self) -> None:
        """Steps to the newest commit. What is remembered is dropped when there was one."""
        commit = self.snapshot.renew()
        if commit != self._commit:
            self._commit = commit
            self._of_superusers.clear()
            self._of_actors.clear()

    def find(self, path: bytes, actor: Actor) -> Resolved | Missing:
        """As `namespace.lookup.try_resolve`, whose errors it raises."""
        parent_path, _, name = path.rpartition(b"/")
        if not name:
            return try_resolve(self.view, path, actor)
        known = self._of_superusers if actor.superuser else self._directories_of(actor)
        parent = known.get(parent_path)
        if parent is None:
            found = try_resolve(self.view, parent_path or b"/", actor)
            if isinstance(found, Missing):
                return Missing(path, found.parent, [*found.remaining, name])
            if not found.inode.is_dir:
                raise not_a_directory(found.path)
            check(found.inode, actor, EXECUTE, found.path)
            if len(known) >= DIRECTORIES_REMEMBERED_MAX:
                known.clear()
            parent = known[parent_path] = found
        raw = self.snapshot.get(keys.entry(parent.inode.id, name))
        if raw is None:
            return Missing(path, parent, [name])
        inode = decode_inode(raw)
        mount = parent.mount if inode.mount_id == parent.inode.mount_id else mount_of(self.view, inode.mount_id)
        relative = b"" if mount is None else relative_to(path, mount.path)
        return Resolved(path, inode, parent.inode.id, name, mount, relative)

    def _directories_of(self, actor: Actor) -> dict[bytes, Resolved]:
        known = self._of_actors.get(actor)
        if known is None:
            if len(self._of_actors) >= ACTORS_REMEMBERED_MAX:
                self._of_actors.clear()
            known = self._of_actors[actor] = {}
        return known
