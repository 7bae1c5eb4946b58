"""Finding a path with one get for its last component, when its directory was found before in the same committed state.

Owns: that short cut. Never: changes anything, or knows when a commit makes what is remembered void (the callers do).
The rules (search permission on every ancestor) are those of `namespace.lookup`, which does the walk.
"""

from isotach.base.limits import DIRECTORIES_REMEMBERED_MAX
from isotach.base.paths import relative_to
from isotach.namespace import keys
from isotach.namespace.actor import Actor
from isotach.namespace.lookup import Missing, Resolved, decoded, mount_of, not_a_directory, try_resolve
from isotach.namespace.permissions import EXECUTE, check
from isotach.namespace.view import Readable, View


def find(state: Readable, known: dict[bytes, Resolved], path: bytes, actor: Actor) -> Resolved | Missing:
    """As `namespace.lookup.try_resolve`, whose errors it raises. `known` holds directories of this state that this
    actor may search; those found now are added."""
    parent_path, _, name = path.rpartition(b"/")
    if not name:
        return try_resolve(View(state), path, actor)
    parent = known.get(parent_path)
    if parent is None:
        found = try_resolve(View(state), parent_path or b"/", actor)
        if isinstance(found, Missing):
            return Missing(path, found.parent, [*found.remaining, name])
        if not found.inode.is_dir:
            raise not_a_directory(found.path)
        check(found.inode, actor, EXECUTE, found.path)
        if len(known) >= DIRECTORIES_REMEMBERED_MAX:
            known.clear()
        parent = known[parent_path] = found
    raw = state.get(keys.entry(parent.inode.id, name))
    if raw is None:
        return Missing(path, parent, [name])
    inode = decoded(state, raw)
    mount = parent.mount if inode.mount_id == parent.inode.mount_id else mount_of(View(state), inode.mount_id)
    relative = b"" if mount is None else relative_to(path, mount.path)
    return Resolved(path, inode, parent.inode.id, name, mount, relative)
