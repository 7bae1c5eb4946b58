"""Access control lists, extended attributes, times, setuid and setgid, symbolic links: each rule by itself.

Owns: `acl`, `xattrs`, `first_attributes`, `symlinks` and the parts of `attributes` that follow POSIX. Never: models a
whole namespace (`test_against_model.py` does).
"""

import errno

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError
from isotach.base.types import Inode, Kind
from isotach.kv.memory_store import MemoryStore
from isotach.namespace import acl, attributes, counters, lookup, making, mounts, permissions, symlinks
from isotach.namespace.acl import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entry
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.directories import make_directory
from isotach.namespace.first_attributes import Asked
from isotach.namespace.view import View
from isotach.wire.messages import MakeRequest, SetAttrRequest

ALICE = Actor("alice", frozenset({"staff", "alice"}), uid=1000, gids=frozenset({1000, 50}))
BOB = Actor("bob", frozenset({"bobs"}), uid=1001, gids=frozenset({1001}))
CAROL = Actor("carol", frozenset({"staff"}), uid=1002, gids=frozenset({50}))
BASE = [Entry(USER_OBJ, 7), Entry(GROUP_OBJ, 5), Entry(OTHER, 0)]
FULL = [
    Entry(USER_OBJ, 7), Entry(USER, 7, 1001), Entry(GROUP_OBJ, 5), Entry(GROUP, 6, 50), Entry(MASK, 6), Entry(OTHER, 0)
]  # fmt: skip


@pytest.fixture
def view():
    view = View(MemoryStore().frozen())
    counters.IdAllocator.open(view)
    mounts.ensure_root(view, "file:///root", {}, "root", "root", 1, mode=0o777)
    return view


@pytest.fixture
def ids(view):
    return counters.IdAllocator.open(view)


def mkdir(view, ids, path, mode=0o755, actor=ALICE, **asked):
    return make_directory(view, path, Asked(mode, **asked), False, False, actor, 5, ids, False).inode


def make(view, ids, path, kind=Kind.FILE, mode=0o644, actor=ALICE, **fields):
    request = MakeRequest(path, int(kind), mode, exclusive=True, **fields)
    return making.make_entry(view, request, actor, False, 7, ids).found.inode


def change(view, path, actor=ALICE, **fields):
    return attributes.set_attributes(view, SetAttrRequest(path, **fields), actor, 99)


# --- access control lists ---

perms = st.integers(0, 7)


@st.composite
def lists(draw):
    users = [Entry(USER, draw(perms), n) for n in draw(st.lists(st.integers(0, 3), max_size=3, unique=True))]
    groups = [Entry(GROUP, draw(perms), n) for n in draw(st.lists(st.integers(0, 3), max_size=3, unique=True))]
    mask = [Entry(MASK, draw(perms))] if users or groups or draw(st.booleans()) else []
    owner, group, other = (Entry(tag, draw(perms)) for tag in (USER_OBJ, GROUP_OBJ, OTHER))
    return [owner, *users, group, *groups, *mask, other]


@given(lists())
def test_a_list_is_read_as_it_was_written(entries):
    raw = acl.encode(entries)
    assert acl.parse(raw) == entries
    assert raw[:4] == b"\x02\0\0\0"
    assert len(raw) == 4 + 8 * len(entries)


@given(lists(), st.integers(0, 0o777))
def test_the_mode_and_the_list_follow_one_another(entries, mode):
    assert acl.mode_of(acl.with_mode(entries, mode))[0] == mode


@given(lists(), st.integers(0, 0o7777), st.booleans(), st.integers(-1, 0o777))
def test_what_a_directory_hands_on_never_exceeds_what_was_asked_for(entries, mode, is_dir, umask):
    default = acl.encode(entries)
    got, xattrs = acl.inherited({acl.DEFAULT: default}, mode, umask, is_dir)
    assert got & ~mode == 0
    assert got & ~0o777 == mode & ~0o777
    assert ((xattrs or {}).get(acl.DEFAULT) == default) is is_dir
    if xattrs and acl.ACCESS in xattrs:
        assert acl.mode_of(acl.parse(xattrs[acl.ACCESS]))[0] == got & 0o777
    else:
        assert acl.mode_of(entries)[1]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x02\0\0",
        b"\x01\0\0\0",
        acl.encode(BASE) + b"x",
        acl.encode(BASE[:2]),
        acl.encode([*BASE, BASE[0]]),
        acl.encode(BASE[::-1]),
        acl.encode([BASE[0], Entry(USER, 7, 1), *BASE[1:]]),  # no mask
        acl.encode([Entry(USER_OBJ, 8), *BASE[1:]]),
        acl.encode([*BASE, Entry(0x40, 7)]),
    ],
)
def test_bytes_that_are_no_list_are_refused(raw):
    with pytest.raises(InvalidArgumentError):
        acl.parse(raw)


def test_who_is_let_in_by_a_list():
    inode = Inode(9, Kind.FILE, 0o760, "alice", "staff", 0, 0, 0, 0, 1, 0, 0, 1, xattrs={acl.ACCESS: acl.encode(FULL)})
    dave = Actor("dave", frozenset({"daves"}), uid=1003)
    for actor, allowed in ((ALICE, 7), (BOB, 6), (CAROL, 6), (dave, 0)):
        held = [access for access in range(8) if permissions.allowed(inode, actor, access)]
        assert held == [access for access in range(8) if access & ~allowed == 0], actor.user
    # Two groups match: one grants reading and executing, the other reading and writing, the mask both reads only.
    masked = [each if each.tag != MASK else Entry(MASK, 4) for each in FULL]
    narrow = msgspec.structs.replace(inode, xattrs={acl.ACCESS: acl.encode(masked)})
    assert permissions.allowed(narrow, CAROL, 4)
    assert not permissions.allowed(narrow, CAROL, 2)


def test_setting_a_list_sets_the_mode_and_a_chmod_the_mask(view, ids):
    make(view, ids, b"/f")
    after = change(view, b"/f", set_xattrs={acl.ACCESS: acl.encode(FULL)})
    assert after.mode == 0o760
    after = change(view, b"/f", mode=0o600)
    assert [each.permissions for each in acl.parse(after.xattrs[acl.ACCESS])] == [6, 7, 5, 6, 0, 0]
    after = change(view, b"/f", set_xattrs={acl.ACCESS: acl.encode(BASE)})
    assert (after.mode, after.xattrs) == (0o750, None)
    change(view, b"/f", set_xattrs={acl.ACCESS: acl.encode(FULL)})
    assert change(view, b"/f", remove_xattrs=[acl.ACCESS]).xattrs is None
    with pytest.raises(PermissionError) as refused:
        change(view, b"/f", actor=BOB, set_xattrs={acl.ACCESS: acl.encode(BASE)})
    assert refused.value.errno == errno.EPERM
    with pytest.raises(PermissionError):
        change(view, b"/f", set_xattrs={acl.DEFAULT: acl.encode(BASE)})


def test_a_default_list_replaces_the_umask(view, ids):
    mkdir(view, ids, b"/plain")
    assert make(view, ids, b"/plain/f", mode=0o666, umask=0o027).mode == 0o640
    assert mkdir(view, ids, b"/plain/d", 0o777, umask=0o077).mode == 0o700
    mkdir(view, ids, b"/d")
    change(view, b"/d", set_xattrs={acl.DEFAULT: acl.encode(FULL)})
    file = make(view, ids, b"/d/f", mode=0o666, umask=0o077)
    assert file.mode == 0o660
    assert list(file.xattrs) == [acl.ACCESS]
    inner = mkdir(view, ids, b"/d/e", 0o777, umask=0o077)
    assert inner.mode == 0o760
    assert inner.xattrs == {acl.ACCESS: acl.encode(FULL), acl.DEFAULT: acl.encode(FULL)}
    assert make(view, ids, b"/d/link", Kind.SYMLINK, target=b"x").xattrs is None


# --- what a new entry begins with ---


def test_a_setgid_directory_gives_its_group_and_a_directory_the_bit(view, ids):
    mkdir(view, ids, b"/d", 0o2775)
    change(view, b"/d", actor=SYSTEM, group="staff", mode=0o2777)
    file, inner = make(view, ids, b"/d/f", actor=BOB), mkdir(view, ids, b"/d/e", actor=BOB)
    assert (file.group, file.mode) == ("staff", 0o644)
    assert (inner.group, inner.mode) == ("staff", 0o2755)
    assert make(view, ids, b"/d/g", mode=0o2755, actor=BOB).mode == 0o755  # bob is not in that group


def test_only_superusers_make_for_others_and_make_devices(view, ids):
    made = make(view, ids, b"/f", actor=SYSTEM, owner="alice", group="staff")
    assert (made.owner, made.group) == ("alice", "staff")
    assert make(view, ids, b"/g", owner="alice", group="staff").group == "staff"
    for fields in ({"owner": "bob"}, {"group": "bobs"}):
        with pytest.raises(PermissionError):
            make(view, ids, b"/h", **fields)
    device = MakeRequest(b"/dev", int(Kind.BLOCK_DEVICE), rdev=5)
    with pytest.raises(PermissionError):
        making.check_kind(device, ALICE)
    making.check_kind(device, SYSTEM)
    for target, number in ((b"", errno.ENOENT), (b"x" * 4096, errno.ENAMETOOLONG)):
        with pytest.raises(OSError, match="target") as refused:
            making.check_kind(MakeRequest(b"/s", int(Kind.SYMLINK), target=target), ALICE)
        assert refused.value.errno == number
    with pytest.raises(InvalidArgumentError):
        making.check_kind(MakeRequest(b"/s", int(Kind.HARD_LINK)), SYSTEM)


# --- attributes ---


def test_times_are_the_owners_and_now_is_for_all_who_write(view, ids):
    make(view, ids, b"/f", mode=0o666)
    assert change(view, b"/f", atime_ns=3, mtime_ns=4).mtime_ns == 4
    with pytest.raises(PermissionError) as refused:
        change(view, b"/f", actor=BOB, mtime_ns=5)
    assert refused.value.errno == errno.EPERM
    after = change(view, b"/f", actor=BOB, atime_now=True, mtime_now=True)
    assert (after.atime_ns, after.mtime_ns) == (99, 99)
    change(view, b"/f", mode=0o600)
    with pytest.raises(PermissionError) as refused:
        change(view, b"/f", actor=BOB, mtime_now=True)
    assert refused.value.errno == errno.EACCES


def test_setuid_and_setgid_end_where_they_must(view, ids):
    make(view, ids, b"/f", mode=0o755)
    assert change(view, b"/f", mode=0o6755).mode == 0o6755
    assert change(view, b"/f", group="staff").mode == 0o755  # an ordinary chown
    change(view, b"/f", actor=SYSTEM, mode=0o6755)
    assert change(view, b"/f", actor=SYSTEM, clear_suid=True).mode == 0o755
    change(view, b"/f", actor=SYSTEM, mode=0o6745)
    assert change(view, b"/f", clear_suid=True).mode == 0o2745  # without group execution it means something else
    change(view, b"/f", actor=SYSTEM, group="bobs")
    assert change(view, b"/f", mode=0o2755).mode == 0o755  # alice is not in that group


def test_rules_and_limits_of_extended_attributes(view, ids):
    make(view, ids, b"/f")
    change(view, b"/f", set_xattrs={"user.a": b"1"}, xattr_rule="create")
    for fields, number in (
        ({"set_xattrs": {"user.a": b""}, "xattr_rule": "create"}, errno.EEXIST),
        ({"set_xattrs": {"user.b": b""}, "xattr_rule": "replace"}, errno.ENODATA),
        ({"remove_xattrs": ["user.b"], "xattr_rule": "replace"}, errno.ENODATA),
        ({"set_xattrs": {"user.b": bytes(70_000)}}, errno.ENOSPC),
        ({"set_xattrs": {"trusted.b": b""}}, errno.EPERM),
        ({"set_xattrs": {"security.b": b""}}, errno.EPERM),
    ):
        with pytest.raises(OSError) as refused:
            change(view, b"/f", **fields)
        assert refused.value.errno == number
    assert change(view, b"/f", actor=SYSTEM, set_xattrs={"trusted.b": b"2"}).xattrs["trusted.b"] == b"2"
    assert lookup.resolve(view, b"/f", SYSTEM).inode.xattrs == {"user.a": b"1", "trusted.b": b"2"}
    make(view, ids, b"/s", Kind.SYMLINK, target=b"f")
    with pytest.raises(PermissionError):
        change(view, b"/s", set_xattrs={"user.a": b"1"})


# --- symbolic links ---


def test_paths_through_links(view, ids):
    mkdir(view, ids, b"/d")
    mkdir(view, ids, b"/d/e")
    make(view, ids, b"/d/e/f")
    for path, target in ((b"/a", b"d/e"), (b"/d/up", b"../d/./e/"), (b"/abs", b"/d/up/f"), (b"/nothing", b"/x/y")):
        make(view, ids, path, Kind.SYMLINK, target=target)
    for path, last, leads_to in (
        (b"/a/f", False, b"/d/e/f"),
        (b"/a", False, b"/a"),
        (b"/a", True, b"/d/e"),
        (b"/d/up/f", True, b"/d/e/f"),
        (b"/abs", True, b"/d/e/f"),
        (b"/nothing/z", True, b"/x/y/z"),
        (b"/d/e/f", True, b"/d/e/f"),
    ):
        assert symlinks.followed(view, path, ALICE, last) == leads_to
    make(view, ids, b"/one", Kind.SYMLINK, target=b"two")
    make(view, ids, b"/two", Kind.SYMLINK, target=b"one")
    with pytest.raises(OSError, match="symbolic links") as loop:
        symlinks.followed(view, b"/one", ALICE, follow_last=True)
    assert loop.value.errno == errno.ELOOP
    change(view, b"/d", mode=0o700)
    with pytest.raises(PermissionError):
        symlinks.followed(view, b"/a/f", BOB, follow_last=False)
    with pytest.raises(NotADirectoryError):
        symlinks.followed(view, b"/abs/x", ALICE, follow_last=True)
