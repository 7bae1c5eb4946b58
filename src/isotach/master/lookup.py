"""Finding a path fast, on the read side: one get for the last component when its directory was found before.

Owns: the memory of directories for each actor, good for one committed state. Never: changes anything, or walks itself
(`namespace.remembering` does).
"""

from typing import Final

from isotach.base.limits import ACTORS_REMEMBERED_MAX
from isotach.base.paths import ID_MARK
from isotach.base.types import Kind
from isotach.kv.interface import RenewableSnapshot
from isotach.namespace.actor import Actor
from isotach.namespace.lookup import Missing, Resolved, canonical
from isotach.namespace.remembering import find
from isotach.namespace.symlinks import followed
from isotach.namespace.view import View

_SYMLINK: Final = int(Kind.SYMLINK)


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
        known = self._of_superusers if actor.superuser else self._directories_of(actor)
        return find(self.snapshot, known, path, actor)

    def named(self, path: bytes, actor: Actor, follow: bool = True) -> Resolved | Missing:
        """The same for a path that may be an id path, or lead through symbolic links; with `follow` also what a link
        itself leads to, but never that of an id path."""
        if path[:1] == ID_MARK:
            return self.find(canonical(self.view, path), actor)
        try:
            found = self.find(path, actor)
        except NotADirectoryError:
            again = followed(self.view, path, actor, follow)
            if again == path:
                raise
            return self.find(again, actor)
        if follow and isinstance(found, Resolved) and found.inode.kind == _SYMLINK:
            return self.find(followed(self.view, path, actor, follow_last=True), actor)
        return found

    def _directories_of(self, actor: Actor) -> dict[bytes, Resolved]:
        known = self._of_actors.get(actor)
        if known is None:
            if len(self._of_actors) >= ACTORS_REMEMBERED_MAX:
                self._of_actors.clear()
            known = self._of_actors[actor] = {}
        return known
