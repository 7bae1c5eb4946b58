"""Real tiers in real folders for the tests of the block store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isotach.base.limits import MIB
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.store import BlockStore
from isotach.conf.kinds import TierSpec


def meta_of(version: int, length: int, *, pinned: bool = False) -> VersionMeta:
    """A version with 4 MiB blocks."""
    return VersionMeta(version, version + 1000, length, 4 * MIB, "etag", pinned)


def content(version: int, length: int) -> bytes:
    """Bytes that tell version and place apart."""
    word = (version * 2654435761 % 2**32).to_bytes(4, "big")
    row = b"".join(word + place.to_bytes(4, "big") for place in range(512))
    return (row * (length // len(row) + 1))[:length]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., BlockStore]]:
    """`open_store(MEM=8)` gives a store with a MEM tier of 8 MiB in a folder that later calls find again."""
    opened: list[BlockStore] = []

    def build(**quotas_mib: float) -> BlockStore:
        specs = [TierSpec(alias, tmp_path / alias, int(quota * MIB)) for alias, quota in quotas_mib.items()]
        store = BlockStore(specs)
        opened.append(store)
        return store

    yield build
    for store in opened:
        store.close()
