"""Whose a folder is: the stamp of a cluster in its index, and what becomes of a folder that another cluster left.

Owns: the stamp, and the look into a folder before anything in it is believed. Never: decides by a path or a name, and
never removes what no under storage has from a disk.

Numbers of versions and files begin anew with every namespace, so that the bytes of one cluster would pass for files of
another: they are complete, and match their checksums.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from isotach.base.errors import IsotachError
from isotach.base.failpoints import fail_at
from isotach.base.limits import INDEX_REMOVAL_ROWS
from isotach.blockstore.index import CLUSTER_KEY, load_headers, version_keys
from isotach.conf.units import approximate_size
from isotach.kv.interface import KeyValueStore, Snapshot
from isotach.obs.log import get_logger

log = get_logger("blockstore.ownership")
_LABEL: Final = b"isotach: the folders of a cluster's tiers"
_STAMP_BYTES: Final = 16
#: Device, inode and time of the last change of an index: while they stay, so do its rows.
IndexState = tuple[int, int, int]


class ForeignFolderError(IsotachError):
    """The folder holds what only another cluster has. Looking again is of use once `state` has changed."""

    def __init__(self, text: str, state: IndexState) -> None:
        super().__init__(text)
        self.state: Final = state


class _Left(msgspec.Struct):
    """What somebody left in a folder; bytes are lengths of files."""

    owner: str
    versions: int = 0
    size_bytes: int = 0
    dirty: int = 0
    dirty_bytes: int = 0


def cluster_stamp(secret: bytes) -> bytes:
    """What marks the folders of the cluster with this secret (16 to 64 bytes), and tells nothing of it: keyed BLAKE2b,
    16 bytes."""
    return hashlib.blake2b(_LABEL, key=secret, digest_size=_STAMP_BYTES).digest()


def index_state(path: Path) -> IndexState | None:
    """Of the index of the folder at `path`; None when there is none."""
    try:
        status = os.stat(path / "index" / "data.mdb")
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def claim(
    index: KeyValueStore, path: Path, cluster: bytes, *, is_memory: bool, remove_containers: Callable[[], None]
) -> None:
    """Makes the folder ours before anything in it is read. What another cluster left there is removed if it is in an
    under storage, or `is_memory`; a crash in between leaves a folder that is foreign still.

    Raises ForeignFolderError when files of another cluster would be lost, OSError when the stamp cannot be written.
    """
    state = index_state(path) or (0, 0, 0)
    with index.snapshot() as snapshot:
        owner = snapshot.get(CLUSTER_KEY)
        if owner == cluster:
            return
        left = _what_is_left(snapshot, owner)
    if left.dirty and not is_memory:
        raise ForeignFolderError(_refusal(left), state)
    if left.versions:
        log.warning(
            "foreign_folder_emptied",
            folder=str(path),
            owner=left.owner,
            versions=left.versions,
            bytes=left.size_bytes,
            not_persisted=left.dirty,
        )
    remove_containers()
    fail_at("store.after_foreign_containers")
    for keys in _batches(index):
        index.commit([(key, None) for key in keys])
    index.commit([(CLUSTER_KEY, cluster)])


def _what_is_left(snapshot: Snapshot, owner: bytes | None) -> _Left:
    left = _Left("unknown: no cluster has marked it" if owner is None else f"the cluster marked {owner.hex()[:8]}")
    for _, header in load_headers(snapshot):
        left.versions += 1
        left.size_bytes += header.length
        if header.dirty:
            left.dirty += 1
            left.dirty_bytes += header.length
    return left


def _refusal(left: _Left) -> str:
    files = "1 file" if left.dirty == 1 else f"{left.dirty} files"
    return (
        f"the folder belongs to another cluster (owner: {left.owner}) and holds {files} "
        f"({approximate_size(left.dirty_bytes)}) of it that no under storage has: give this tier another path, or "
        f"remove the folder if nobody wants them; a worker of that cluster, started with it, serves them still"
    )


def _batches(index: KeyValueStore) -> Iterator[list[bytes]]:
    """The keys of all that the index says of versions, a bounded number at a time, to be deleted."""
    while True:
        with index.snapshot() as snapshot:
            keys = version_keys(snapshot, INDEX_REMOVAL_ROWS)
        if not keys:
            return
        yield keys
