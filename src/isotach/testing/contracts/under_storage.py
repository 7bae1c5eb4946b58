"""What every under storage must do, as tests.

Owns: the promises of `isotach.ufs.interface`. A driver's test class inherits `UnderStorageContract` and gives the
fixture `storage`: an empty, writable under storage. Differences that the interface allows are asked from
`capabilities`.
Never: knows a driver.
"""

import errno
import os
import threading
from collections.abc import Iterable, Iterator

import pytest

from isotach.base.errors import InvalidPathError, StaleVersionError
from isotach.base.limits import MIB, UFS_LIST_PAGE_ENTRIES
from isotach.ufs.interface import UfsStatus, UnderStorage

#: Names that break stores which forget to quote: each must be listed, found, read and removed as it is.
ODD_NAMES = (
    "with space", "plus+sign", "percent%20sign", "100%", "q?mark#hash&amp", "equals=semi;colon,comma", "tilde~star*",
    "quote'\"", "(brackets)[square]{curly}", "snowman-\u2603", "e\u0301-decomposed", "emoji-\U0001f600", ".dot",
    "trailing.",
    "<tag>", "$dollar", "@at", "!bang", "pipe|caret^", "-dash", "a" * 200,
)  # fmt: skip


def put(storage: UnderStorage, path: str, data: bytes) -> UfsStatus:
    """Writes a whole file."""
    writer = storage.open_write(path, len(data))
    writer.write(data)
    return writer.commit()


def get(storage: UnderStorage, path: str) -> bytes:
    """Reads a whole file."""
    return bytes(storage.read_range(path, 0, storage.stat(path).length + 1))


def stream(
    storage: UnderStorage, path: str, offset: int, length: int, fingerprint: str | None = None, piece: int = 4096
) -> bytes:
    """Reads a range through `open_range`, `piece` bytes at a time."""
    reader = storage.open_range(path, offset, length, fingerprint)
    try:
        parts = []
        buffer = bytearray(piece)
        while count := reader.read_into(memoryview(buffer)):
            parts.append(bytes(buffer[:count]))
        assert reader.read_into(memoryview(buffer)) == 0, "the end stays the end"
        return b"".join(parts)
    finally:
        reader.close()
        reader.close()


def names(pages: Iterable[list[UfsStatus]]) -> list[str]:
    """The paths of a listing, sorted."""
    return sorted(status.path for page in pages for status in page)


class UnderStorageContract:
    """Inherit, and give the fixture `storage`."""

    #: How many files the test of listing pages makes.
    many_files = UFS_LIST_PAGE_ENTRIES + 250

    @pytest.fixture
    def storage(self) -> Iterator[UnderStorage]:
        raise NotImplementedError("give a fixture `storage` in the inheriting class")

    # -- reading and writing

    def test_check_of_a_good_store(self, storage: UnderStorage) -> None:
        storage.check(read_only=False)
        storage.check(read_only=True)

    def test_written_file_is_found_and_read(self, storage: UnderStorage) -> None:
        written = put(storage, "folder/file", b"0123456789")
        found = storage.stat("folder/file")
        assert (found.path, found.is_dir, found.length) == ("folder/file", False, 10)
        assert found.fingerprint is not None
        assert found.fingerprint == written.fingerprint
        assert written.length == 10
        assert get(storage, "folder/file") == b"0123456789"
        assert storage.stat("folder").is_dir

    def test_uri_has_no_trailing_slash(self, storage: UnderStorage) -> None:
        assert not storage.uri.endswith("/")

    def test_empty_file(self, storage: UnderStorage) -> None:
        written = put(storage, "empty", b"")
        assert storage.stat("empty").length == 0
        assert bytes(storage.read_range("empty", 0, 10, written.fingerprint)) == b""

    @pytest.mark.parametrize(
        ("offset", "length", "expected"),
        [(0, 4, b"0123"), (3, 4, b"3456"), (8, 100, b"89"), (10, 5, b""), (500, 5, b""), (4, 0, b"")],
    )
    def test_ranges(self, storage: UnderStorage, offset: int, length: int, expected: bytes) -> None:
        written = put(storage, "file", b"0123456789")
        assert bytes(storage.read_range("file", offset, length)) == expected
        assert bytes(storage.read_range("file", offset, length, written.fingerprint)) == expected

        for piece in (3, 4096):
            assert stream(storage, "file", offset, length, None, piece) == expected
            assert stream(storage, "file", offset, length, written.fingerprint, piece) == expected

    def test_a_range_is_streamed_whole_and_may_be_left_early(self, storage: UnderStorage) -> None:
        data = os.urandom(3 * MIB + 17)
        fingerprint = put(storage, "file", data).fingerprint
        for _ in range(3):
            left_early = storage.open_range("file", 5, len(data), fingerprint)
            buffer = bytearray(100)
            assert buffer[: left_early.read_into(memoryview(buffer))] == data[5:105]
            left_early.close()
            assert left_early.read_into(memoryview(buffer)) == 0
            assert stream(storage, "file", 1, 2 * MIB, fingerprint, 65_537) == data[1 : 1 + 2 * MIB]
        assert stream(storage, "file", MIB, len(data), fingerprint, 256 * 1024) == data[MIB:]

    def test_large_file_in_odd_pieces(self, storage: UnderStorage) -> None:
        data = os.urandom(20 * MIB + 12_345)
        for hint in (None, len(data)):
            writer = storage.open_write("large", hint)
            view = memoryview(data)
            for start in range(0, len(data), 3 * MIB + 7):
                piece = bytearray(view[start : start + 3 * MIB + 7])
                writer.write(piece)
                piece[:] = bytes(len(piece))  # the buffer may be reused at once
            writer.prepare()
            assert writer.commit().length == len(data)
            assert get(storage, "large") == data
            assert bytes(storage.read_range("large", 17 * MIB, 4096)) == data[17 * MIB : 17 * MIB + 4096]

    def test_missing_file(self, storage: UnderStorage) -> None:
        for path in ("nothing", "no/such/path", "nothing\x01odd"):
            with pytest.raises(FileNotFoundError):
                storage.stat(path)
            with pytest.raises(FileNotFoundError):
                storage.read_range(path, 0, 1)
            with pytest.raises(FileNotFoundError):
                stream(storage, path, 0, 1)
            with pytest.raises(FileNotFoundError):
                storage.delete(path)
            with pytest.raises(FileNotFoundError):
                next(iter(storage.list_pages(path)), None)

    # -- fingerprints

    def test_fingerprint_tells_other_content(self, storage: UnderStorage) -> None:
        first = put(storage, "file", b"first content")
        second = put(storage, "file", b"other content")
        assert first.fingerprint != second.fingerprint
        for offset, length in ((0, 5), (0, 0), (1000, 5)):
            with pytest.raises(StaleVersionError):
                storage.read_range("file", offset, length, first.fingerprint)
            with pytest.raises(StaleVersionError):
                stream(storage, "file", offset, length, first.fingerprint)
        assert bytes(storage.read_range("file", 0, 5, second.fingerprint)) == b"other"

    def test_fingerprint_is_the_same_in_stat_and_listings(self, storage: UnderStorage) -> None:
        put(storage, "d/file", b"content")
        found = storage.stat("d/file")
        [listed] = [status for page in storage.list_pages("d") for status in page]
        [walked] = [status for page in storage.list_recursive("d") for status in page if not status.is_dir]
        assert listed == walked == found

    def test_fingerprint_survives_a_rename_where_it_moves_the_file_itself(self, storage: UnderStorage) -> None:
        before = put(storage, "before", b"content").fingerprint
        storage.rename("before", "after")
        after = storage.stat("after").fingerprint
        assert after == before or not storage.capabilities.atomic_rename
        assert bytes(storage.read_range("after", 0, 100, after)) == b"content"

    # -- writers

    def test_nothing_is_visible_before_commit(self, storage: UnderStorage) -> None:
        for size in (10, 20 * MIB):
            writer = storage.open_write("d/file", size)
            writer.write(bytes(size))
            writer.prepare()
            with pytest.raises(FileNotFoundError):
                storage.stat("d/file")
            assert not any("file" in name for name in self._names_if_there(storage, "d"))
            writer.abort()
            writer.abort()
            with pytest.raises(FileNotFoundError):
                storage.stat("d/file")

    def test_abort_keeps_the_old_file(self, storage: UnderStorage) -> None:
        put(storage, "file", b"old")
        writer = storage.open_write("file")
        writer.write(b"new and longer")
        assert get(storage, "file") == b"old"
        writer.abort()
        assert get(storage, "file") == b"old"

    def test_dropped_writer_leaves_nothing(self, storage: UnderStorage) -> None:
        writer = storage.open_write("d/file")
        writer.write(b"lost")
        del writer
        assert "d/file" not in self._names_if_there(storage, "d")

    def test_commit_replaces(self, storage: UnderStorage) -> None:
        put(storage, "file", b"a much longer old content")
        put(storage, "file", b"new")
        assert get(storage, "file") == b"new"
        assert names(storage.list_pages("")) == ["file"]

    def test_last_of_concurrent_writers_wins_whole(self, storage: UnderStorage) -> None:
        contents = [bytes([number]) * (100_000 + number) for number in range(4)]
        threads = [threading.Thread(target=put, args=(storage, "file", content)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get(storage, "file") in contents
        assert names(storage.list_pages("")) == ["file"]

    # -- listings

    def test_listing_shows_direct_children_once(self, storage: UnderStorage) -> None:
        for path in ("d/a", "d/b/c", "d/b/d", "d/b-x", "d/e/f/g", "other", "d2/x"):
            put(storage, path, b"x")
        pages = list(storage.list_pages("d"))
        assert names(pages) == ["d/a", "d/b", "d/b-x", "d/e"]
        assert {status.path: status.is_dir for page in pages for status in page} == {
            "d/a": False, "d/b": True, "d/b-x": False, "d/e": True,
        }  # fmt: skip
        assert names(storage.list_pages("")) == ["d", "d2", "other"]

    def test_walk_shows_every_file(self, storage: UnderStorage) -> None:
        files = ["d/a", "d/b/c", "d/b/d", "d/e/f/g"]
        for path in [*files, "elsewhere"]:
            put(storage, path, b"x")
        storage.mkdir("d/empty")
        found = [status for page in storage.list_recursive("d") for status in page]
        assert sorted(status.path for status in found if not status.is_dir) == files
        assert "d/empty" in [status.path for status in found if status.is_dir]

    def test_listing_comes_in_pages(self, storage: UnderStorage) -> None:
        expected = [f"many/f{number:05d}" for number in range(self.many_files)]
        _put_all(storage, expected)
        pages = list(storage.list_pages("many"))
        assert len(pages) > 1
        assert max(len(page) for page in pages) <= UFS_LIST_PAGE_ENTRIES
        assert names(pages) == expected
        assert names(storage.list_recursive("many")) == expected
        middle = self.many_files // 2
        assert names(storage.list_pages("many", start_after=f"f{middle:05d}")) == expected[middle + 1 :]
        storage.delete_directory("many", recursive=True)
        with pytest.raises(FileNotFoundError):
            storage.stat("many")

    def test_listing_of_a_file_and_of_nothing(self, storage: UnderStorage) -> None:
        put(storage, "file", b"x")
        storage.mkdir("empty")
        with pytest.raises(NotADirectoryError):
            list(storage.list_pages("file"))
        with pytest.raises(FileNotFoundError):
            list(storage.list_pages("missing"))
        assert names(storage.list_pages("empty")) == []
        assert names(storage.list_pages("empty", start_after="x")) == []

    def test_listing_of_an_empty_root(self, storage: UnderStorage) -> None:
        assert names(storage.list_pages("")) == []
        assert names(storage.list_recursive("")) == []
        assert storage.stat("").is_dir

    def test_odd_names(self, storage: UnderStorage) -> None:
        for name in ODD_NAMES:
            put(storage, f"odd/{name}", name.encode())
            put(storage, f"odd dir/{name}/in side", b"x")
        assert names(storage.list_pages("odd")) == sorted(f"odd/{name}" for name in ODD_NAMES)
        assert names(storage.list_pages("odd dir")) == sorted(f"odd dir/{name}" for name in ODD_NAMES)
        for name in ODD_NAMES:
            assert get(storage, f"odd/{name}") == name.encode()
            storage.rename(f"odd/{name}", f"moved/{name}")
            assert get(storage, f"moved/{name}") == name.encode()
            storage.delete(f"moved/{name}")

    def test_names_that_are_no_unicode_round_trip_or_are_refused(self, storage: UnderStorage) -> None:
        name = os.fsdecode(b"latin-\xe9")
        if storage.capabilities.object_store:
            with pytest.raises(InvalidPathError, match="UTF-8"):
                storage.open_write(name)
        else:
            put(storage, name, b"x")
            assert names(storage.list_pages("")) == [name]
            assert get(storage, name) == b"x"

    # -- directories

    def test_mkdir_makes_parents_and_may_be_repeated(self, storage: UnderStorage) -> None:
        for _ in range(2):
            storage.mkdir("a/b/c")
        assert storage.stat("a/b/c").is_dir
        assert storage.stat("a/b").is_dir
        assert names(storage.list_pages("a")) == ["a/b"]
        assert names(storage.list_pages("a/b/c")) == []
        put(storage, "file", b"x")
        with pytest.raises((FileExistsError, NotADirectoryError)):
            storage.mkdir("file")

    def test_delete_of_a_file_and_of_a_directory(self, storage: UnderStorage) -> None:
        put(storage, "d/file", b"x")
        with pytest.raises(IsADirectoryError):
            storage.delete("d")
        with pytest.raises(OSError, match="not empty"):
            storage.delete_directory("d", recursive=False)
        storage.delete("d/file")
        with pytest.raises(FileNotFoundError):
            storage.stat("d/file")
        storage.mkdir("d")
        storage.delete_directory("d", recursive=False)
        with pytest.raises(FileNotFoundError):
            storage.stat("d")
        with pytest.raises(FileNotFoundError):
            storage.delete_directory("d", recursive=True)
        put(storage, "file", b"x")
        with pytest.raises(NotADirectoryError):
            storage.delete_directory("file", recursive=True)
        assert get(storage, "file") == b"x"

    def test_delete_of_a_tree_spares_its_neighbours(self, storage: UnderStorage) -> None:
        for path in ("d/a", "d/b/c", "d-2", "d2/x"):
            put(storage, path, b"x")
        storage.mkdir("d/empty")
        storage.delete_directory("d", recursive=True)
        assert names(storage.list_pages("")) == ["d-2", "d2"]

    # -- rename

    def test_rename_replaces_a_file(self, storage: UnderStorage) -> None:
        put(storage, "src", b"new")
        put(storage, "dst", b"old")
        storage.rename("src", "dst")
        assert get(storage, "dst") == b"new"
        assert names(storage.list_pages("")) == ["dst"]
        with pytest.raises(FileNotFoundError):
            storage.rename("src", "dst")

    def test_rename_of_a_directory(self, storage: UnderStorage) -> None:
        for path in ("src/a", "src/b/c", "src-2/x"):
            put(storage, path, path.encode())
        storage.mkdir("src/empty")
        storage.rename("src", "new/place")
        assert names(storage.list_pages("")) == ["new", "src-2"]
        assert names(storage.list_pages("new/place")) == ["new/place/a", "new/place/b", "new/place/empty"]
        assert get(storage, "new/place/b/c") == b"src/b/c"
        assert storage.stat("new/place/empty").is_dir
        with pytest.raises(FileNotFoundError):
            storage.stat("src")

    def test_rename_over_a_directory(self, storage: UnderStorage) -> None:
        put(storage, "src/a", b"x")
        put(storage, "full/b", b"kept")
        put(storage, "file", b"kept")
        storage.mkdir("empty")
        for src, dst, number in (
            ("src", "full", errno.ENOTEMPTY),
            ("src", "file", errno.ENOTDIR),
            ("file", "full", errno.EISDIR),
        ):
            with pytest.raises(OSError, match=r"target|directory") as caught:
                storage.rename(src, dst)
            assert caught.value.errno == number
        with pytest.raises(OSError, match="into itself"):
            storage.rename("src", "src/below")
        assert get(storage, "full/b") == get(storage, "file") == b"kept"
        storage.rename("src", "empty")
        assert names(storage.list_pages("")) == ["empty", "file", "full"]
        assert names(storage.list_pages("empty")) == ["empty/a"]

    # -- the rest

    def test_set_mode_has_effect_or_none(self, storage: UnderStorage) -> None:
        put(storage, "file", b"x")
        storage.set_mode("file", 0o640)
        assert storage.stat("file").mode == (0o640 if storage.capabilities.set_mode else None)

    def test_clean_leftovers_spares_files(self, storage: UnderStorage) -> None:
        put(storage, "d/file", b"x")
        storage.clean_leftovers(0.0)
        assert names(storage.list_recursive("d")) == ["d/file"]

    def test_plain_errors_are_not_transient(self, storage: UnderStorage) -> None:
        assert not storage.is_transient(FileNotFoundError())
        assert not storage.is_transient(StaleVersionError())

    @staticmethod
    def _names_if_there(storage: UnderStorage, path: str) -> list[str]:
        try:
            return names(storage.list_pages(path))
        except FileNotFoundError:
            return []


def _put_all(storage: UnderStorage, paths: list[str]) -> None:
    """Many small files, by a few threads."""

    def run(part: list[str]) -> None:
        for path in part:
            put(storage, path, b"x")

    threads = [threading.Thread(target=run, args=(paths[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
