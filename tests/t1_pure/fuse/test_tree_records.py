"""Owners by number, attributes as shown, own changes, time-outs: the pure parts of the tree."""

import stat

import msgspec
import pytest

from isotach.base.types import Flag, Inode, Kind
from isotach.conf import load_settings
from isotach.fuse.tree.attributes import BLOCK_BYTES, Shown, attributes_of
from isotach.fuse.tree.known_places import KnownPlaces
from isotach.fuse.tree.lasting import Lasting
from isotach.fuse.tree.own_changes import OwnChanges
from isotach.fuse.tree.owners import NOBODY, Owners
from isotach.wire.messages import Change

_FILE = Inode(1024, Kind.FILE, 0o640, "ann", "staff", 1000, 5_000_000_007, 6, 7, 9, 1 << 20, 0, 1)


class _Tables:
    """A machine's users and groups."""

    def __init__(self) -> None:
        self.users = {"ann": 1001}
        self.groups = {"staff": 50}
        self.asked = 0
        self.now_s = 0.0

    def uid(self, name: str) -> int:
        self.asked += 1
        return self.users[name]

    def user(self, uid: int) -> str:
        self.asked += 1
        return {number: name for name, number in self.users.items()}[uid]

    def owners(self) -> Owners:
        return Owners(
            uid_of_name=self.uid,
            gid_of_name=lambda name: self.groups[name],
            name_of_uid=self.user,
            name_of_gid=lambda gid: {number: name for name, number in self.groups.items()}[gid],
            now_s=lambda: self.now_s,
        )


def test_names_become_numbers_and_numbers_names() -> None:
    owners = _Tables().owners()
    assert (owners.uid("ann"), owners.gid("staff")) == (1001, 50)
    assert (owners.user(1001), owners.group(50)) == ("ann", "staff")


@pytest.mark.parametrize(
    ("name", "number"), [("4711", 4711), ("nobody-knows-me", NOBODY), ("", NOBODY), ("99999999999", NOBODY)]
)
def test_a_name_that_is_not_known_is_nobody_and_digits_are_a_number(name: str, number: int) -> None:
    assert _Tables().owners().uid(name) == number


def test_a_number_without_a_name_comes_back_as_itself() -> None:
    owners = _Tables().owners()
    assert owners.user(4711) == "4711"
    assert owners.uid(owners.user(4711)) == 4711


def test_names_are_asked_for_once_a_minute() -> None:
    tables = _Tables()
    owners = tables.owners()
    for _ in range(10):
        owners.uid("ann")
    assert tables.asked == 1
    tables.users["ann"] = 2002
    tables.now_s = 61
    owners.age()
    assert owners.uid("ann") == 2002


def test_attributes_of_a_file() -> None:
    shown = attributes_of(_FILE, None, _Tables().owners(), Shown())
    assert (shown.ino, shown.size, shown.blocks, shown.blksize) == (1024, 1000, 2, BLOCK_BYTES)
    assert (shown.mtime_ns, shown.ctime_ns, shown.atime_ns) == (5_000_000_007, 6, 7)
    assert (shown.mode, shown.nlink, shown.uid, shown.gid) == (stat.S_IFREG | 0o640, 1, 1001, 50)


@pytest.mark.parametrize("kind", [Kind.DIRECTORY, Kind.FIFO, Kind.SOCKET, Kind.CHARACTER_DEVICE, Kind.SYMLINK])
def test_each_kind_has_its_type(kind: Kind) -> None:
    inode = msgspec.structs.replace(_FILE, kind=kind, length=0, target=b"there")
    shown = attributes_of(inode, None, _Tables().owners(), Shown())
    is_type = {
        Kind.DIRECTORY: stat.S_ISDIR, Kind.FIFO: stat.S_ISFIFO, Kind.SOCKET: stat.S_ISSOCK,
        Kind.CHARACTER_DEVICE: stat.S_ISCHR, Kind.SYMLINK: stat.S_ISLNK,
    }[kind]  # fmt: skip
    assert is_type(shown.mode)
    if kind == Kind.SYMLINK:
        assert (shown.size, stat.S_IMODE(shown.mode)) == (5, 0o777)


def test_options_override_what_is_shown() -> None:
    shown = attributes_of(_FILE, None, _Tables().owners(), Shown(uid=7, gid=8, umask=0o077))
    assert (shown.uid, shown.gid, stat.S_IMODE(shown.mode)) == (7, 8, 0o600)


def test_own_changes_are_no_news_and_others_are() -> None:
    own = OwnChanges()
    own.note(_FILE)
    assert own.is_own(Change(1, b"x", _FILE))
    assert not own.is_own(Change(1, b"x", msgspec.structs.replace(_FILE, mode=0o600)))
    assert not own.is_own(Change(1, b"x", msgspec.structs.replace(_FILE, version=10)))
    # What no program can see is no news either: it was persisted.
    assert own.is_own(Change(1, b"x", msgspec.structs.replace(_FILE, flags=int(Flag.PERSISTED), fingerprint="f")))
    own.note_removed(1, b"x", _FILE.id)
    assert own.is_own(Change(1, b"x", None, _FILE.id))
    assert not own.is_own(Change(1, b"x", None, 4711))
    assert not own.is_own(Change(2, b"x", None, _FILE.id))


def test_what_own_names_do_to_their_directory_is_no_news_and_all_else_is() -> None:
    own, place = OwnChanges(), (1, b"d")
    before = msgspec.structs.replace(_FILE, kind=Kind.DIRECTORY, mtime_ns=10, ctime_ns=10)

    def changed(at_ns: int, **fields: object) -> Inode:
        return msgspec.structs.replace(before, **{"mtime_ns": at_ns, "ctime_ns": at_ns, **fields})

    own.note_touch(before.id, 20)
    assert not own.is_own_touch(place, changed(20)), "what it was before is not known"
    own.note_touch(before.id, 30)
    assert own.is_own_touch(place, changed(30))
    assert not own.is_own_touch(place, changed(40)), "others made or removed a name"
    for at_ns, different in enumerate(({"mode": 0o700}, {"owner": "bob"}, {"xattrs": {"user.a": b"1"}}), start=50):
        own.note_touch(before.id, at_ns)
        assert not own.is_own_touch(place, changed(at_ns, **different)), "others changed it in the same commit"
        assert not own.is_own_touch(place, changed(at_ns)), "and changed it back"
    own.note_touch(before.id, 60)
    assert own.is_own_touch(place, changed(60))
    assert not own.is_own_touch(place, changed(60, mtime_ns=59)), "utimes(2)"
    assert not own.is_own_touch((1, b"e"), changed(60)), "it was moved"
    own.missed()
    assert not own.is_own_touch((1, b"e"), changed(60))


def test_a_directory_that_was_only_touched_keeps_its_name() -> None:
    places = KnownPlaces()
    directory = msgspec.structs.replace(_FILE, kind=Kind.DIRECTORY)
    places.note(directory, (1, b"d"))
    assert places.is_at(directory, (1, b"d"))
    assert not places.is_at(directory, (1, b"e"))
    places.forget(directory.id)
    assert not places.is_at(directory, (1, b"d"))


def test_what_the_kernel_may_believe_is_short_without_the_feed_and_below_mounts_that_are_asked() -> None:
    is_live = True
    settings = load_settings({"fuse.attr_timeout": "1h", "fuse.negative_timeout": "10s"}).fuse
    lasting = Lasting(settings, lambda: is_live)
    assert (lasting.attr(-1), lasting.entry(-1), lasting.negative(-1)) == ((3600, 0), (3600, 0), (10, 0))
    assert (lasting.attr(2500), lasting.entry(0), lasting.negative(2500)) == ((2, 500_000_000), (0, 0), (0, 0))
    is_live = False
    assert (lasting.attr(-1), lasting.entry(60_000), lasting.negative(-1)) == ((1, 0), (1, 0), (0, 0))
