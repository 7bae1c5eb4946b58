"""Paths: what is legal, one canonical form, and splitting that joins again.

Owns: the properties every layer relies on. The reference model is plain splitting on slashes.
"""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base import paths
from isotach.base.errors import InvalidPathError, PathTooLongError

names = (
    st.binary(min_size=1, max_size=40)
    .map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda name: name not in (b".", b".."))
)
name_lists = st.lists(names, max_size=8)


@given(name_lists, st.integers(1, 3), st.booleans())
def test_normalize_gives_one_form(parts: list[bytes], slashes: int, trailing: bool) -> None:
    separator = b"/" * slashes
    spelled = separator + separator.join(parts) + (separator if trailing else b"")

    assert paths.normalize(spelled) == b"/" + b"/".join(parts)


@given(name_lists)
def test_normalize_is_idempotent_and_takes_text(parts: list[bytes]) -> None:
    path = paths.normalize(b"/" + b"/".join(parts))

    assert paths.normalize(path) == path
    assert paths.normalize(os.fsdecode(path)) == path


@given(name_lists)
def test_components_are_what_was_joined(parts: list[bytes]) -> None:
    path = b"/"
    for part in parts:
        path = paths.join(path, part)

    assert paths.components(path) == parts


@given(st.lists(names, min_size=1, max_size=8))
def test_split_and_join_undo_each_other(parts: list[bytes]) -> None:
    path = b"/" + b"/".join(parts)
    parent, name = paths.split(path)

    assert name == parts[-1]
    assert paths.components(parent) == parts[:-1]
    assert paths.join(parent, name) == path


def test_the_root_splits_into_itself_and_nothing() -> None:
    assert paths.split(b"/") == (b"/", b"")


@given(name_lists, name_lists)
def test_relative_to_is_the_rest(above: list[bytes], below: list[bytes]) -> None:
    ancestor = b"/" + b"/".join(above)
    path = paths.normalize(b"/" + b"/".join(above + below))

    assert paths.is_within(path, ancestor)
    assert paths.relative_to(path, ancestor) == b"/".join(below)


def test_a_shared_prefix_of_letters_is_not_an_ancestor() -> None:
    assert not paths.is_within(b"/ab", b"/a")
    assert paths.is_within(b"/a/b", b"/a")
    assert paths.is_within(b"/a", b"/")


@pytest.mark.parametrize("path", ["", "a", "a/b", "/a/../b", "/..", "/.", "/a/./b", "/a\0b"])
def test_what_names_nothing_is_refused(path: str) -> None:
    with pytest.raises(InvalidPathError):
        paths.normalize(path)


@pytest.mark.parametrize("path", ["/" + "n" * 256, "/" + "/".join(["d" * 200] * 21)])
def test_too_long_is_its_own_error(path: str) -> None:
    with pytest.raises(PathTooLongError) as caught:
        paths.normalize(path)

    assert caught.value.errno == errno.ENAMETOOLONG


def test_the_longest_legal_path_is_taken() -> None:
    path = "/" + "/".join(["d" * 255] * 16)

    assert len(path) == 4096
    assert os.fsdecode(paths.normalize(path)) == path


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0", b"n" * 256])
def test_an_illegal_name_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidPathError):
        paths.check_name(name)
