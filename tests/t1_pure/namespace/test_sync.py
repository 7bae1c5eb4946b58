"""Taking in what an under storage shows: the end state is the store's, and nothing that exists only here is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotach.base.types import Flag
from isotach.kv.memory_store import MemoryStore
from isotach.namespace import counters, directories, files, keys, mounts, trees
from isotach.namespace.actor import SYSTEM
from isotach.namespace.first_attributes import Asked
from isotach.namespace.lookup import Missing, list_children, resolve, try_resolve
from isotach.namespace.records import decode_inode
from isotach.namespace.sync import ListingMerge, LoadedStatus, apply_listing, apply_status, store_key
from isotach.namespace.view import View
from isotach.wire.messages import WriteGrant


class World:
    """A namespace with a mount at /m; every change is committed at once."""

    def __init__(self):
        self.store = MemoryStore()
        self.now = 10
        self.ids = self.run(counters.IdAllocator.open)
        self.run(lambda view: mounts.ensure_root(view, "file:///root", {}, "root", "root", 1))
        self.mount = self.run(lambda v: mounts.add_mount(v, b"/m", "s3://b", {}, False, -1, SYSTEM, 1, self.ids))

    def run(self, change):
        view = View(self.store.frozen())
        result = change(view)
        self.store.commit(view.batch())
        return result

    def view(self):
        return View(self.store.frozen())

    def write(self, path, *, persisted, fingerprint="f", length=3):
        self.now += 1
        grant = WriteGrant(
            version=self.ids.allocate(), file_id=self.ids.allocate(), path=path, user="bob", groups=[], superuser=True,
            write_type="MUST_CACHE", mode=0o644, block_size=1 << 20, overwrite=True, ttl_ms=-1, ttl_action="DELETE",
            pinned=False, mount_id=1, ufs_path=b"", expires_s=0,
        )  # fmt: skip
        return self.run(
            lambda v: files.complete_file(v, grant, length, fingerprint, 0, persisted, False, self.now, self.ids)
        ).inode

    def status(self, path, status):
        self.now += 1
        return self.run(lambda view: apply_status(view, path, status, self.mount, self.now, self.ids))

    def listing(self, path, pages, *, ordered):
        """All pages as the master's sync service gives them."""
        self.now += 1
        merge = ListingMerge(ordered, self.now)
        changed, freed = 0, []
        for index, given_page in enumerate([*pages, []]):
            last = index == len(pages)
            page, first, finished = given_page, index == 0, False
            while not finished:
                self.now += 1
                synced = self.run(
                    lambda view, page=page, first=first, last=last: apply_listing(
                        view, resolve(view, path, SYSTEM), page, first, last, merge, self.now, self.ids
                    )
                )
                changed, freed = changed + synced.changed, freed + synced.freed_versions
                page, first, finished = [], False, synced.finished
        return changed, freed

    def names(self, path):
        view = self.view()
        rows = list_children(view, resolve(view, path, SYSTEM).inode.id, b"", 10_000_000)
        return {name: decode_inode(raw) for name, raw in rows}


@pytest.fixture
def world():
    return World()


def test_a_file_of_the_store_appears_with_its_parents(world):
    done = world.status(b"/m/x/y/f", LoadedStatus(b"f", False, 5, 77, "v1"))

    found = resolve(world.view(), b"/m/x/y/f", SYSTEM)
    assert (done.changed, done.freed_versions, found.inode.length, found.inode.mtime_ns) == (3, [], 5, 77)
    assert found.inode.flags & Flag.PERSISTED
    assert found.relative == b"x/y/f"


def test_a_changed_fingerprint_gives_a_new_version_and_frees_the_old(world):
    old = world.write(b"/m/f", persisted=True, fingerprint="v1")

    same = world.status(b"/m/f", LoadedStatus(b"f", False, 3, 0, "v1"))
    done = world.status(b"/m/f", LoadedStatus(b"f", False, 9, 0, "v2"))

    now = resolve(world.view(), b"/m/f", SYSTEM).inode
    assert (same.changed, done.changed, done.freed_versions) == (0, 1, [old.version])
    assert now.id == old.id
    assert now.version > old.version
    assert (now.length, now.fingerprint) == (9, "v2")


def test_what_exists_only_here_is_neither_removed_nor_replaced(world):
    mine = world.write(b"/m/d/f", persisted=False)

    world.status(b"/m/d/f", None)
    world.status(b"/m/d/f", LoadedStatus(b"f", False, 9, 0, "other"))
    world.status(b"/m/d", None)
    world.listing(b"/m", [], ordered=True)

    assert resolve(world.view(), b"/m/d/f", SYSTEM).inode == mine


def test_a_directory_that_vanished_goes_with_all_below(world):
    for index in range(3):
        world.status(b"/m/d/e/f%d" % index, LoadedStatus(b"", False, 1, 0, "v"))

    done = world.status(b"/m/d", None)

    assert done.changed == 1
    assert isinstance(try_resolve(world.view(), b"/m/d", SYSTEM), Missing)
    assert (
        len(world.run(lambda view: trees.reclaim_slice(view, 100)).versions)
        + len(world.run(lambda view: trees.reclaim_slice(view, 100)).versions)
        == 3
    )


def test_a_directory_with_a_mount_inside_stays(world):
    world.status(b"/m/d/f", LoadedStatus(b"f", False, 1, 0, "v"))
    world.run(lambda v: mounts.add_mount(v, b"/m/d/n", "s3://c", {}, False, -1, SYSTEM, 5, world.ids))

    world.status(b"/m/d", None)

    assert set(world.names(b"/m/d")) == {b"f", b"n"}


def test_a_file_becomes_a_directory_and_back(world):
    world.status(b"/m/x", LoadedStatus(b"x", False, 1, 0, "v"))
    world.status(b"/m/x", LoadedStatus(b"x", True))
    assert resolve(world.view(), b"/m/x", SYSTEM).inode.is_dir
    world.status(b"/m/x", LoadedStatus(b"x", False, 1, 0, "v"))
    assert not resolve(world.view(), b"/m/x", SYSTEM).inode.is_dir


def test_a_file_written_while_the_listing_went_on_stays(world):
    merge = ListingMerge(True, world.now + 1)
    world.now += 1
    world.write(b"/m/new", persisted=True)
    page = [LoadedStatus(b"zz", False, 1, 0, "v")]

    def take(view):
        return apply_listing(view, resolve(view, b"/m", SYSTEM), page, True, True, merge, world.now + 9, world.ids)

    world.run(take)

    assert set(world.names(b"/m")) == {b"new", b"zz"}
    assert resolve(world.view(), b"/m", SYSTEM).inode.flags & Flag.CHILDREN_LOADED


def test_very_large_vanished_trees_go_in_bounded_calls(world, monkeypatch):
    monkeypatch.setattr("isotach.namespace.sync.SYNC_TREE_CHECK_ENTRIES", 10)
    monkeypatch.setattr("isotach.namespace.sync.SYNC_SWEEP_ENTRIES", 7)
    pages = [[LoadedStatus(b"f%05d" % index, False, 1, 0, "v") for index in range(50)]]
    world.status(b"/m/d", LoadedStatus(b"d", True))
    world.listing(b"/m/d", pages, ordered=False)
    mine = world.write(b"/m/d/mine", persisted=False)

    calls = 1
    while not (done := world.status(b"/m/d", None)).finished:
        assert len(done.freed_versions) <= 10
        calls += 1

    assert world.names(b"/m/d") == {b"mine": mine}
    assert calls > 4


name_parts = st.text(alphabet="ab-/0", min_size=1, max_size=4).map(lambda text: text.replace("/", ".").encode())
entries_of_store = st.dictionaries(name_parts, st.tuples(st.booleans(), st.sampled_from(["v1", "v2"])), max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    before=entries_of_store,
    after=entries_of_store,
    mine=st.dictionaries(name_parts, st.just(None), max_size=3),
    page_size=st.integers(1, 4),
    ordered=st.booleans(),
    seed=st.randoms(use_true_random=False),
)
def test_after_a_listing_the_directory_is_what_the_store_shows(before, after, mine, page_size, ordered, seed):
    world = World()
    for shown in (before, after):
        if shown is after:
            for name in mine:
                if name not in before and name.strip(b"."):
                    world.write(b"/m/" + name, persisted=False)
        rows = [LoadedStatus(name, d, 1, 1, None if d else v) for name, (d, v) in shown.items() if name.strip(b".")]
        if ordered:
            rows.sort(key=lambda row: store_key(row.name, row.is_dir))
        else:
            seed.shuffle(rows)
        pages = [rows[at : at + page_size] for at in range(0, len(rows), page_size)]
        world.listing(b"/m", pages, ordered=ordered)

    own = {name for name in mine if name not in before and name.strip(b".")}
    expected = {name: (d, None if d else v) for name, (d, v) in after.items() if name.strip(b".") and name not in own}
    found = {name: (i.is_dir, i.fingerprint) for name, i in world.names(b"/m").items() if name not in own}
    assert found == expected
    assert own <= set(world.names(b"/m"))
    assert world.listing(b"/m", pages, ordered=ordered) == (0, [])


def test_parents_of_a_listing_keep_the_count_exact(world):
    world.listing(b"/m", [[LoadedStatus(b"a", True), LoadedStatus(b"b", False, 1, 1, "v")]], ordered=True)
    world.listing(b"/m", [], ordered=True)

    view = world.view()
    assert counters.read(view, keys.INODES) == 2
    assert directories.make_directory(view, b"/m/a", Asked(), False, False, SYSTEM, 1, world.ids, True).created_paths
