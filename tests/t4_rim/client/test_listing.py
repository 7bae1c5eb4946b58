"""Listings against the fake cluster: pages are joined, recursion is depth first, a lost connection is made good."""

import asyncio

import pytest

import isotach


@pytest.fixture
def tree(fake):
    fake.directories[b"/"] = [b"%02d" % number for number in range(10)] + [b"sub"]
    fake.directories[b"/sub"] = [b"a", b"b", b"c", b"d", b"deep"]
    fake.directories[b"/sub/deep"] = [b"x"]
    return fake


EXPECTED = [f"/{number:02d}" for number in range(10)] + ["/sub"]
BELOW = ["/sub/a", "/sub/b", "/sub/c", "/sub/d", "/sub/deep", "/sub/deep/x"]


def test_pages_are_joined(tree, fs):
    infos = list(fs.list("/"))
    assert [info.path for info in infos] == EXPECTED
    assert infos[0].ufs_path == "mem://x/00"
    assert infos[-1].is_dir
    assert tree.calls.count("list") == 4


def test_recursive_is_depth_first(tree, fs):
    assert [info.path for info in fs.list("/", recursive=True)] == EXPECTED + BELOW


def test_page_lost_on_the_way_is_asked_for_again(tree, fs):
    tree.list_failures = 2
    assert [info.path for info in fs.list("/", recursive=True)] == EXPECTED + BELOW
    assert tree.list_failures == 0


def test_lazy_and_abandoned(tree, fs):
    entries = fs.list("/")
    assert next(entries).path == "/00"
    assert tree.calls.count("list") <= 2  # the present page, and the one ahead
    del entries
    assert [info.path for info in fs.list("/")] == EXPECTED


def test_missing_directory_raises_at_once(tree, fs):
    tree.directories.pop(b"/sub")
    with pytest.raises(isotach.IsotachError):
        fs.list("/sub")


def test_async_listing(tree):
    async def run() -> None:
        fs = await isotach.connect_async(tree.address)
        async with fs:
            assert [info.path for info in await fs.list("/")] == EXPECTED
            assert [info.path async for info in fs.list("/", recursive=True)] == EXPECTED + BELOW

    asyncio.run(run())
