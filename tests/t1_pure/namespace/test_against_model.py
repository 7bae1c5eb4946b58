"""The namespace against the reference model, over many views, commits and failed commits, on a store in memory."""

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from isotach.base.types import HARD_LINKS_ID, Flag, Inode, Kind
from isotach.kv.memory_store import MemoryStore
from isotach.namespace import attributes, counters, directories, files, hard_links, keys, lookup, making, mounts, trees
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.entries import has_copies_rule
from isotach.namespace.first_attributes import Asked
from isotach.namespace.records import decode_inode
from isotach.namespace.view import Overlay, View
from isotach.testing.namespace_model import Model, Node, User
from isotach.wire.messages import MakeRequest, SetAttrRequest, WriteGrant

USERS = (
    User("root", frozenset(), True),
    User("alice", frozenset({"staff", "alice"})),
    User("bob", frozenset({"staff"})),
)
names = st.sampled_from(["a", "b"])
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
#: A number stands for one of the paths that exist: random paths alone seldom meet anything.
any_paths = st.one_of(st.integers(0, 30), st.integers(0, 30), paths)
users = st.sampled_from([USERS[0], *USERS])  # changes of the superuser go through: the others need something to meet
modes = st.sampled_from([0o777, 0o777, 0o775, 0o1777, 0o2777, 0o755, 0o644, 0o711])
kinds = st.sampled_from(["file", "file", "symlink", "fifo"])
_KINDS = {"file": Kind.FILE, "symlink": Kind.SYMLINK, "fifo": Kind.FIFO}


def actor_of(user: User) -> Actor:
    return Actor(user.name, user.groups, user.superuser)


class Namespace(RuleBasedStateMachine):
    """Changes stand in layers over the store, as batches in flight do, until a rule commits or drops them."""

    def __init__(self):
        super().__init__()
        self.store = MemoryStore()
        self.layers: list[Overlay] = []  # newest first
        self.models: list[Model] = []  # the model before each layer, oldest first
        self.model = Model()
        self.now = 1
        view = self.view()
        self.ids = counters.IdAllocator.open(view)
        mounts.ensure_root(view, "file:///root", {}, "root", "root", 1, mode=0o777)
        self.store.commit(view.batch())

    # --- how a handler runs ---

    def view(self) -> View:
        return View(self.store.frozen(), self.layers)

    def attempt(self, change, expected) -> object:
        """Runs `change(view)` and asserts that it fails just when the model does."""
        self.now += 1
        before = Model(dict(self.model.nodes))
        errnos = expected()
        view = self.view()
        try:
            result = change(view)
        except OSError as error:
            raised = error
        else:
            raised = None
        if raised is not None:
            assert raised.errno in errnos, f"{raised!r} is not among {errnos}"
            return None
        assert not errnos, f"nothing was raised, but {errnos} was due"
        if view.own.rows:
            self.layers.insert(0, view.own)
            self.models.append(before)
        return result

    def path(self, given) -> str:
        known = sorted(self.model.nodes)
        return known[given % len(known)] if isinstance(given, int) else given

    # --- rules ---

    @initialize(mode=st.sampled_from([0o777, 0o755]))
    def begin_with_a_few(self, mode):
        for path in ("/a", "/a/a", "/b", "/b/b", "/a/b"):
            self.mkdir(USERS[1], path, mode, False, False)
        for path in ("/b/a", "/a/a/b", "/a/a/a"):
            self.write(USERS[2] if mode == 0o777 else USERS[1], path, 0o644, False, -1)
        self.link(USERS[0], "/b/a", "/a/c", 0, "c")

    @rule(user=users, path=any_paths, mode=modes, parents=st.booleans(), exist_ok=st.booleans())
    def mkdir(self, user, path, mode, parents, exist_ok):
        path = self.path(path)
        self.attempt(
            lambda view: directories.make_directory(
                view, path.encode(), Asked(mode), parents, exist_ok, actor_of(user), self.now, self.ids, False
            ),
            lambda: self.model.mkdir(user, path, mode, parents, exist_ok),
        )

    @rule(
        user=users, path=any_paths, mode=modes, overwrite=st.booleans(), ttl_ms=st.sampled_from([-1, 5]),
        same=st.booleans(),
    )  # fmt: skip
    def write(self, user, path, mode, overwrite, ttl_ms, same=True):
        path = self.path(path)
        version, file_id = self.ids.allocate(), self.ids.allocate()
        before = self.model.nodes.get(path)
        gone = same or before is None or len(self.model.names_of(path)) == 1
        if same and before is not None:
            file_id = lookup.resolve(self.view(), path.encode(), SYSTEM).inode.id
        grant = WriteGrant(
            version=version, file_id=file_id, path=path.encode(), user=user.name, groups=list(user.groups),
            superuser=user.superuser, write_type="MUST_CACHE", mode=mode, block_size=1 << 20, overwrite=overwrite,
            ttl_ms=ttl_ms, ttl_action="DELETE", pinned=False, mount_id=1, ufs_path=b"", expires_s=0,
        )  # fmt: skip
        planned = None
        try:
            files.plan_create(self.view(), grant_as_create(grant), actor_of(user), self.now)
        except OSError as error:
            planned = error.errno
        done = self.attempt(
            lambda view: files.complete_file(view, grant, 7, None, 0, False, False, self.now, self.ids),
            lambda: self.model.write(user, path, mode, version, overwrite, same),
        )
        assert (planned is None) == (done is not None), "the plan and the completion must agree"
        if done is not None:
            freed = done.replaced.version if done.replaced else 0
            assert freed == (before.version if before and gone else 0) or self.has_names_in_detached()
            again = files.complete_file(self.view(), grant, 7, None, 0, False, False, self.now, self.ids)
            assert again == files.Completed(done.inode, None)

    @rule(user=users, src=any_paths, dst=any_paths, replace=st.booleans())
    def rename(self, user, src, dst, replace):
        src, dst = self.path(src), self.path(dst)
        self.attempt(
            lambda view: trees.rename(view, src.encode(), dst.encode(), replace, actor_of(user), self.now),
            lambda: self.model.rename(user, src, dst, replace),
        )

    @rule(user=users, path=any_paths, mode=modes, kind=kinds, exclusive=st.booleans())
    def make(self, user, path, mode, kind, exclusive):
        path, number = self.path(path), self.ids.allocate()
        asked = MakeRequest(path.encode(), int(_KINDS[kind]), mode, exclusive=exclusive, target=b"x")
        done = self.attempt(
            lambda view: making.make_entry(view, asked, actor_of(user), False, self.now, self.ids),
            lambda: self.model.make(user, path, mode, kind, exclusive, number),
        )
        if done is not None and done.made and kind == "file":
            self.model.nodes[path] = replace(self.model.nodes[path], version=done.found.inode.version)

    @rule(user=users, src=any_paths, dst=any_paths, nth=st.integers(0, 30), name=st.sampled_from(["a", "b", "c"]))
    def link(self, user, src, dst, nth, name):
        src, dst = self.path(src), self.path(dst)
        if nth % 3:  # mostly what has a chance
            folders = sorted(path for path, node in self.model.nodes.items() if node.is_dir)
            known = sorted(path for path, node in self.model.nodes.items() if not node.is_dir)
            src = known[nth % len(known)] if known else src
            dst = folders[nth % len(folders)].rstrip("/") + "/" + name
        self.attempt(
            lambda view: hard_links.link(view, src.encode(), dst.encode(), actor_of(user), self.now, self.ids),
            lambda: self.model.link(user, src, dst),
        )

    @rule(user=users, one=any_paths, other=any_paths)
    def exchange(self, user, one, other):
        one, other = self.path(one), self.path(other)
        self.attempt(
            lambda view: trees.exchange(view, one.encode(), other.encode(), actor_of(user), self.now),
            lambda: self.model.exchange(user, one, other),
        )

    @rule(user=users, path=any_paths, recursive=st.booleans())
    def remove(self, user, path, recursive):
        path = self.path(path)
        self.attempt(
            lambda view: trees.detach(view, path.encode(), recursive, actor_of(user), self.now),
            lambda: self.model.remove(user, path, recursive),
        )

    @rule(user=users, path=any_paths, mode=modes)
    def chmod(self, user, path, mode):
        path = self.path(path)
        self.attempt(
            lambda view: attributes.set_attributes(
                view, SetAttrRequest(path.encode(), mode=mode), actor_of(user), self.now
            ),
            lambda: self.model.chmod(user, path, mode),
        )

    @rule(path=any_paths, read_only=st.booleans())
    def mount(self, path, read_only):
        path = self.path(path)
        self.attempt(
            lambda view: mounts.add_mount(
                view, path.encode(), "s3://b", {}, read_only, -1, Actor("root", frozenset(), True), self.now, self.ids
            ),
            lambda: self.model.mount(path, read_only),
        )

    @precondition(lambda self: sum(node.is_mount for node in self.model.nodes.values()) > 1)
    @rule(data=st.data())
    def unmount(self, data):
        path = data.draw(st.sampled_from(sorted(path for path, node in self.model.nodes.items() if node.is_mount)))
        self.attempt(lambda view: mounts.remove_mount(view, path.encode(), SYSTEM), lambda: self.model.unmount(path))

    @rule(limit=st.integers(1, 5))
    def reclaim(self, limit):
        self.attempt(lambda view: trees.reclaim_slice(view, limit), set)

    @rule()
    def commit_oldest(self):
        if self.layers:
            self.store.commit(list(self.layers.pop().rows.items()))
            self.models.pop(0)

    @precondition(lambda self: self.layers)
    @rule()
    def fail_commits(self):
        """The disk was full: all that was in flight is void."""
        self.model = self.models[0]
        self.layers.clear()
        self.models.clear()

    # --- what always holds ---

    @invariant()
    def tree_is_the_models(self):
        view = self.view()
        found: dict[str, Node] = {}
        by_id: dict[int, set[str]] = {}
        pending = [("/", lookup.resolve(view, b"/", SYSTEM).inode)]
        table = mounts.mount_table(view)
        while pending:
            path, inode = pending.pop()
            mount = table[inode.mount_id]
            is_mount = bool(inode.flags & Flag.MOUNT_POINT)
            assert not is_mount or mount.path == path.encode()
            found[path] = Node(
                inode.is_dir, inode.owner, inode.group, inode.mode, inode.version, mount.path.decode(), is_mount,
                mount.read_only if is_mount else False, _NAMES.get(inode.kind, "file"),
            )  # fmt: skip
            by_id.setdefault(inode.id, set()).add(path)
            for name, raw in paged(view, inode) if inode.is_dir else ():
                pending.append((path.rstrip("/") + "/" + name.decode(), lookup.decoded(view, raw)))
        assert found == {path: replace(node, file=0) for path, node in self.model.nodes.items()}
        for file_id, names_of in by_id.items():
            assert names_of == set(self.model.names_of(min(names_of)))
            assert lookup.path_of(view, file_id).decode() in names_of
            links = lookup.inode_of(view, file_id).links
            assert links == len(names_of) or (links > len(names_of) and self.has_names_in_detached())

    def has_names_in_detached(self) -> bool:
        return trees.detached_count(self.view()) > 0

    @invariant()
    def rows_fit_each_other(self):
        check_rows(self.view())

    def teardown(self):
        view = self.view()
        while not trees.reclaim_slice(view, 3).finished:
            check_rows(view)
        assert list(view.scan(*keys.all_of(b"t"))) == []
        files_left = len({node.file or path for path, node in self.model.nodes.items()})
        assert counters.read(view, keys.INODES) == files_left
        assert len(list(view.scan(*keys.all_of(b"i")))) == files_left
        check_rows(view)


H_ROWS = keys.all_of(b"h")
_NAMES = {Kind.SYMLINK: "symlink", Kind.FIFO: "fifo"}


def check_rows(view: View) -> None:
    everything = {key[1:]: decode_inode(raw) for key, raw in view.scan(*keys.all_of(b"e"))}
    entries = {place: inode for place, inode in everything.items() if inode.kind != Kind.HARD_LINK}
    stubs = {(inode.id, inode.version): place for place, inode in everything.items() if inode.kind == Kind.HARD_LINK}
    named = {(int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:], "big")): raw for key, raw in view.scan(*H_ROWS)}
    assert named == stubs
    linked = Counter(file_id for file_id, _ in stubs)
    assert linked == {inode.id: inode.links for inode in entries.values() if inode.links > 1}
    shared = {place for place in entries if place[:8] == keys.number(HARD_LINKS_ID)}
    assert shared == {keys.number(HARD_LINKS_ID) + keys.number(file_id) for file_id in linked}
    places = {int.from_bytes(key[1:], "big"): raw for key, raw in view.scan(*keys.all_of(b"i"))}
    assert places == {inode.id: place for place, inode in entries.items()}
    detached = list(view.scan(*keys.all_of(b"t")))
    assert counters.read(view, keys.INODES) == len(entries) + len(detached)
    assert trees.detached_count(view) == len(detached)
    expiring = {key[1:] for key, _ in view.scan(*keys.all_of(b"x"))}
    assert expiring == {keys.expiry(i.expires_ms, i.id)[1:] for i in entries.values() if i.expires_ms >= 0}
    lost = {int.from_bytes(key[1:], "big") for key, _ in view.scan(*keys.all_of(b"l"))}
    assert lost == {inode.id for inode in entries.values() if inode.flags & Flag.LOST}
    ruled = {int.from_bytes(key[1:], "big") for key, _ in view.scan(*keys.all_of(b"r"))}
    assert ruled == {inode.id for inode in entries.values() if has_copies_rule(inode)}


def paged(view: View, directory: Inode) -> list[tuple[bytes, bytes]]:
    """The children, in pages of two."""
    found: list[tuple[bytes, bytes]] = []
    while page := list(lookup.list_children(view, directory.id, found[-1][0] if found else b"", 2)):
        found += page
    assert [name for name, _ in found] == sorted(name for name, _ in found)
    return found


def grant_as_create(grant: WriteGrant):
    from isotach.wire.messages import CreateRequest

    return CreateRequest(grant.path, grant.write_type, grant.mode, overwrite=grant.overwrite)


Namespace.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestNamespace = Namespace.TestCase
