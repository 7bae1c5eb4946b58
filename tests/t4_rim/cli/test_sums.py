"""Sums over trees, against adding up every prefix in a dict."""

from hypothesis import given
from hypothesis import strategies as st

from isotach.base.types import CacheState, FileInfo, Inode, Kind
from isotach.cli.fs.du import directory_sums

NAMES = st.sampled_from(["a", "a-b", "b", "ab"])
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=4).map(tuple), st.one_of(st.none(), st.integers(0, 1000)), max_size=12
)


def entry(path: str, length: int | None) -> FileInfo:
    kind = Kind.DIRECTORY if length is None else Kind.FILE
    inode = Inode(1, kind, 0o644, "u", "g", length or 0, 0, 0, 0, 1, 1, 0, 1)
    return FileInfo(path, inode, None, CacheState((length or 0) // 3, (length or 0) // 2))


def listing(tree: dict[tuple[str, ...], int | None]) -> dict[str, int | None]:
    """Paths of the tree with all their parents, in depth-first order; a file with something below it is a directory."""
    paths: dict[tuple[str, ...], int | None] = {}
    for path, length in tree.items():
        for depth in range(1, len(path)):
            paths[path[:depth]] = None
        if not any(other[: len(path)] == path and other != path for other in tree):
            paths[path] = length
    return {"/root/" + "/".join(path): paths[path] for path in sorted(paths)}


@given(TREES)
def test_every_directory_gets_the_sum_of_what_is_below_it(tree: dict[tuple[str, ...], int | None]) -> None:
    entries = listing(tree)
    directories = ["/root", *(path for path, length in entries.items() if length is None)]
    expected = {
        path: (
            sum(length or 0 for other, length in entries.items() if other.startswith(path + "/")),
            sum((length or 0) // 2 for other, length in entries.items() if other.startswith(path + "/")),
            sum(length is not None for other, length in entries.items() if other.startswith(path + "/")),
            sum(length is None for other, length in entries.items() if other.startswith(path + "/")),
        )
        for path in directories
    }

    sums = list(directory_sums("/root", [entry(path, length) for path, length in entries.items()]))

    found = {each.path: (each.length_bytes, each.cached_bytes, each.files, each.directories) for each in sums}
    assert found == expected
    assert sums[-1].path == "/root"
    assert len(sums) == len(directories)
