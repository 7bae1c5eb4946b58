"""A namespace in one dictionary, slow and obvious: what the real one must do.

Each operation first gives the set of errnos that its broken rules allow (the real one may report any of them), and is
done only when that set is empty.
"""

import errno
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Node:
    """One entry; `mount` is the path of the mount that it belongs to."""

    is_dir: bool
    owner: str
    group: str
    mode: int
    version: int = 0
    mount: str = "/"
    is_mount: bool = False
    read_only: bool = False
    kind: str = "file"  # of what is no directory: file, symlink, fifo
    file: int = 0  # equal for the names of one file


@dataclass(frozen=True)
class User:
    """Who acts."""

    name: str
    groups: frozenset[str] = frozenset()
    superuser: bool = False


@dataclass
class Model:
    """See the module."""

    nodes: dict[str, Node] = field(default_factory=lambda: {"/": Node(True, "root", "root", 0o777, is_mount=True)})

    # --- questions ---

    def parent(self, path: str) -> str:
        return path.rpartition("/")[0] or "/"

    def ancestors(self, path: str) -> list[str]:
        found = []
        while path != "/":
            path = self.parent(path)
            found.append(path)
        return found[::-1]

    def below(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return [each for each in self.nodes if each.startswith(prefix) and each != path]

    def may(self, user: User, path: str, bits: int) -> bool:
        node = self.nodes[path]
        if user.superuser:
            return True
        shift = 6 if node.owner == user.name else 3 if node.group in user.groups else 0
        return (node.mode >> shift) & bits == bits

    def reach(self, user: User, path: str) -> set[int]:
        """Errnos of walking to `path` (itself not looked at)."""
        for each in self.ancestors(path):
            if each not in self.nodes:
                return {errno.ENOENT}
            if not self.nodes[each].is_dir:
                return {errno.ENOTDIR}
            if not self.may(user, each, 1):
                return {errno.EACCES}
        return set()

    def deepest(self, path: str) -> str:
        return next(each for each in [path, *reversed(self.ancestors(path))] if each in self.nodes)

    def walk_to_deepest(self, user: User, path: str) -> set[int]:
        for each in self.ancestors(path):
            if each not in self.nodes:
                return set()
            if not self.nodes[each].is_dir:
                return {errno.ENOTDIR}
            if not self.may(user, each, 1):
                return {errno.EACCES}
        return set()

    def may_add_below(self, user: User, path: str, parents: bool) -> set[int]:
        """Errnos of making `path`, which does not exist."""
        wrong = self.walk_to_deepest(user, path)
        if wrong:
            return wrong
        deepest = self.deepest(path)
        if deepest != self.parent(path) and not parents:
            return {errno.ENOENT}
        if not self.may(user, deepest, 3):
            wrong.add(errno.EACCES)
        if self.nodes[self.nodes[deepest].mount].read_only:
            wrong.add(errno.EROFS)
        return wrong

    def may_take_out(self, user: User, path: str) -> set[int]:
        parent, node = self.nodes[self.parent(path)], self.nodes[path]
        if not self.may(user, self.parent(path), 3):
            return {errno.EACCES}
        if parent.mode & 0o1000 and not user.superuser and user.name not in (node.owner, parent.owner):
            return {errno.EPERM}
        return set()

    def has_mounts(self, path: str) -> bool:
        return self.nodes[path].is_mount or any(self.nodes[each].is_mount for each in self.below(path))

    def names_of(self, path: str) -> list[str]:
        """All names of what stands at `path`."""
        node = self.nodes[path]
        return [path] if node.is_dir else [each for each, other in self.nodes.items() if other.file == node.file]

    def change(self, path: str, **changes: object) -> None:
        """All names of a file show a change of it."""
        for each in self.names_of(path):
            self.nodes[each] = replace(self.nodes[each], **changes)  # type: ignore[arg-type]

    def group_of(self, user: User, parent: Node) -> str:
        if parent.mode & 0o2000:
            return parent.group
        if user.name in user.groups:
            return user.name
        return parent.group if parent.group in user.groups or not user.groups else min(user.groups)

    # --- changes ---

    def make_parents(self, user: User, path: str) -> Node:
        for each in self.ancestors(path):
            if each not in self.nodes:
                above = self.nodes[self.parent(each)]
                mode = 0o755 | above.mode & 0o2000
                self.nodes[each] = Node(True, user.name, self.group_of(user, above), mode, mount=above.mount)
        return self.nodes[self.parent(path)]

    def mkdir(self, user: User, path: str, mode: int, parents: bool, exist_ok: bool) -> set[int]:
        if path in self.nodes:
            wrong = self.reach(user, path)
            if not wrong and not (exist_ok and self.nodes[path].is_dir):
                wrong = {errno.EEXIST}
            return wrong
        wrong = self.may_add_below(user, path, parents)
        if not wrong:
            above = self.make_parents(user, path)
            mode |= above.mode & 0o2000
            self.nodes[path] = Node(True, user.name, self.group_of(user, above), mode, mount=above.mount)
        return wrong

    def write(self, user: User, path: str, mode: int, version: int, overwrite: bool, same: bool) -> set[int]:
        """`same`: what is there keeps its identity, else another file takes its name (`version` is its number)."""
        node = self.nodes.get(path)
        if node is None:
            wrong = self.may_add_below(user, path, True)
            if not wrong:
                above = self.make_parents(user, path)
                self._new(user, path, above, mode, "file", version)
            return wrong
        wrong = self.reach(user, path)
        if wrong:
            return wrong
        if node.is_dir:
            return {errno.EISDIR}
        if node.kind != "file":
            return {errno.ELOOP if node.kind == "symlink" else errno.ENXIO, *([] if overwrite else [errno.EEXIST])}
        if not overwrite:
            wrong.add(errno.EEXIST)
        if not self.may(user, path, 2):
            wrong.add(errno.EACCES)
        if self.nodes[node.mount].read_only:
            wrong.add(errno.EROFS)
        if not wrong and same:
            self.change(path, version=version)
        elif not wrong:
            self.nodes[path] = replace(node, version=version, file=version)
        return wrong

    def _new(self, user: User, path: str, above: Node, mode: int, kind: str, number: int) -> None:
        group = self.group_of(user, above)
        if mode & 0o2000 and not user.superuser and group not in user.groups:
            mode &= ~0o2000
        bits = 0o777 if kind == "symlink" else mode
        version = number if kind == "file" else 0
        self.nodes[path] = Node(False, user.name, group, bits, version, above.mount, kind=kind, file=number)

    def make(self, user: User, path: str, mode: int, kind: str, exclusive: bool, number: int) -> set[int]:
        """MAKE; `number` stands for the new file and its version."""
        node = self.nodes.get(path)
        if node is None:
            wrong = self.may_add_below(user, path, False)
            if not wrong:
                self._new(user, path, self.nodes[self.parent(path)], mode, kind, number)
            return wrong
        wrong = self.reach(user, path)
        if not wrong and (exclusive or kind != "file"):
            wrong = {errno.EEXIST}
        elif not wrong and node.is_dir:
            wrong = {errno.EISDIR}
        return wrong

    def link(self, user: User, src: str, dst: str) -> set[int]:
        wrong = self.reach(user, src)
        if src not in self.nodes:
            return wrong or {errno.ENOENT}
        if not wrong and self.nodes[src].is_dir:
            wrong = {errno.EPERM}
        if wrong:
            return wrong
        if dst in self.nodes:
            return self.reach(user, dst) or {errno.EEXIST}
        wrong = self.may_add_below(user, dst, False)
        node, into = self.nodes[src], self.nodes.get(self.parent(dst))
        if self.nodes[node.mount].read_only:
            wrong.add(errno.EROFS)
        if into is not None and into.mount != node.mount:
            wrong.add(errno.EXDEV)
        if not wrong:
            self.nodes[dst] = node
        return wrong

    def exchange(self, user: User, one: str, other: str) -> set[int]:
        for path in (one, other):
            wrong = self.reach(user, path)
            if wrong or path not in self.nodes:
                return wrong or {errno.ENOENT}
        if one == other or self.nodes[one].file == self.nodes[other].file != 0:
            return set()
        if one == "/" or other == "/" or other.startswith(one + "/") or one.startswith(other + "/"):
            return {errno.EINVAL}
        for source, target in ((one, other), (other, one)):
            if self.nodes[source].is_dir and self.has_mounts(source):
                wrong.add(errno.EBUSY)
            wrong |= self._move_errors(user, source, self.parent(target))
        if not wrong:
            moved = {each: self.nodes.pop(each) for path in (one, other) for each in [path, *self.below(path)]}
            for each, it in moved.items():
                source, target = (one, other) if each == one or each.startswith(one + "/") else (other, one)
                self.nodes[target + each[len(source) :]] = it
        return wrong

    def rename(self, user: User, src: str, dst: str, allow_replace: bool) -> set[int]:
        if src not in self.nodes:
            return self.reach(user, src) or {errno.ENOENT}
        wrong = self.reach(user, src)
        if wrong or src == dst:
            return wrong
        if self.nodes[src].is_dir and self.has_mounts(src):
            wrong.add(errno.EBUSY)
        if self.nodes[src].is_dir and dst.startswith(src.rstrip("/") + "/"):
            wrong.add(errno.EINVAL)
        if dst == "/":
            wrong.add(errno.EBUSY)
        if wrong:
            return wrong
        wrong = self.reach(user, dst)
        if not wrong and allow_replace and dst in self.nodes and dst in self.names_of(src):
            return self._move_errors(user, src, self.parent(dst))  # two names of one file: nothing happens
        into = self.nodes.get(self.parent(dst))
        if wrong and (into is None or not into.is_dir or self.may(user, self.parent(dst), 1)):
            return wrong
        # Search on the target's own directory is looked at together with the rules of the move.
        return wrong | self._rename_reached(user, src, dst, allow_replace)

    def _rename_reached(self, user: User, src: str, dst: str, allow_replace: bool) -> set[int]:
        node, target, into = self.nodes[src], self.nodes.get(dst), self.parent(dst)
        wrong = self._move_errors(user, src, into)
        if target is not None:
            wrong |= self._replace_errors(user, node, dst, allow_replace)
        if not wrong:
            moved = {each: self.nodes.pop(each) for each in [src, *self.below(src)]}
            self.nodes.pop(dst, None)
            for each, it in moved.items():
                self.nodes[dst + each[len(src) :]] = it
        return wrong

    def _move_errors(self, user: User, src: str, into: str) -> set[int]:
        node = self.nodes[src]
        wrong = self.may_take_out(user, src)
        if not self.may(user, into, 3):
            wrong.add(errno.EACCES)
        if self.nodes[into].mount != node.mount:
            wrong.add(errno.EXDEV)
        if self.nodes[node.mount].read_only:
            wrong.add(errno.EROFS)
        if node.is_dir and into != self.parent(src) and not self.may(user, src, 2):
            wrong.add(errno.EACCES)
        return wrong

    def _replace_errors(self, user: User, node: Node, dst: str, allow_replace: bool) -> set[int]:
        target = self.nodes[dst]
        wrong = self.may_take_out(user, dst)
        if not allow_replace:
            wrong.add(errno.EEXIST)
        if target.is_dir and self.has_mounts(dst):
            wrong.add(errno.EBUSY)
        if target.is_dir and not node.is_dir:
            wrong.add(errno.EISDIR)
        if node.is_dir and not target.is_dir:
            wrong.add(errno.ENOTDIR)
        if target.is_dir and self.below(dst):
            wrong.add(errno.ENOTEMPTY)
        return wrong

    def remove(self, user: User, path: str, recursive: bool) -> set[int]:
        wrong = self.reach(user, path)
        if path not in self.nodes:
            return wrong or {errno.ENOENT}
        if wrong:
            return wrong
        if path == "/":
            return {errno.EBUSY}
        wrong = self.may_take_out(user, path)
        if self.nodes[path].is_dir and self.has_mounts(path):
            wrong.add(errno.EBUSY)
        if self.nodes[self.nodes[path].mount].read_only:
            wrong.add(errno.EROFS)
        if self.below(path) and not recursive:
            wrong.add(errno.ENOTEMPTY)
        if not wrong:
            for each in [path, *self.below(path)]:
                del self.nodes[each]
        return wrong

    def chmod(self, user: User, path: str, mode: int) -> set[int]:
        wrong = self.reach(user, path)
        if path not in self.nodes:
            return wrong or {errno.ENOENT}
        if wrong:
            return wrong
        if not user.superuser and self.nodes[path].owner != user.name:
            wrong.add(errno.EPERM)
        if self.nodes[self.nodes[path].mount].read_only:
            wrong.add(errno.EROFS)
        if not wrong:
            if not user.superuser and self.nodes[path].group not in user.groups:
                mode &= ~0o2000
            self.change(path, mode=mode)
        return wrong

    def mount(self, path: str, read_only: bool) -> set[int]:
        """By a superuser."""
        node = self.nodes.get(path)
        if node is None:
            user = User("root", frozenset(), True)
            wrong = self.may_add_below(user, path, True)
            if not wrong:
                above = self.make_parents(user, path)
                self.nodes[path] = Node(True, "root", above.group, 0o755, 0, path, True, read_only)
            return wrong
        if node.is_mount or not node.is_dir:
            return {errno.EEXIST}
        if self.below(path):
            return {errno.ENOTEMPTY}
        self.nodes[path] = replace(node, mount=path, is_mount=True, read_only=read_only)
        return set()

    def unmount(self, path: str) -> set[int]:
        """By a superuser, of a mount."""
        if path == "/" or any(self.nodes[each].is_mount for each in self.below(path)):
            return {errno.EBUSY}
        for each in [path, *self.below(path)]:
            del self.nodes[each]
        return set()
