"""Folders of tiers that another cluster left: numbers repeat in every new namespace, bytes must not.

Owns: the ways in which a worker comes to such a folder. Never: looks into one (the tests of the block store do).
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import isotach
from isotach.base.types import FolderInfo

MIB = 1 << 20
Contents = dict[str, bytes]


def write_all(fs: isotach.FileSystem, letter: str, write_type: str = "CACHE_THROUGH") -> Contents:
    contents = {f"/{letter}{number}": os.urandom(MIB // 4) for number in range(20)}
    for path, data in contents.items():
        fs.write(path, data, write_type=write_type)
    return contents


def check_all(fs: isotach.FileSystem, contents: Contents) -> None:
    """On the ordinary way first, which makes the direct one known."""
    for _ in range(2):
        for path, data in contents.items():
            assert fs.read(path) == data, f"{path} differs"


def folder_of(fs: isotach.FileSystem, alias: str) -> FolderInfo:
    (folder,) = (folder for tier in fs.workers()[0].tiers if tier.alias == alias for folder in tier.folders)
    return folder


@pytest.mark.fault("tier folder of another cluster", "emptied; each file is read from its own store")
def test_a_folder_with_the_cache_of_another_cluster(start: Callable[..., isotach.Cluster], tmp_path: Path) -> None:
    tier = {"worker__tiers": f"SSD:{tmp_path / 'X'}:64MiB"}
    theirs = start("theirs", mem="0", **tier)
    with isotach.connect(theirs.address) as fs:
        write_all(fs, "f")
    theirs.stop()
    assert len(os.listdir(tmp_path / "X" / "containers")) == 20
    ours = start("ours")
    with isotach.connect(ours.address) as fs:
        contents = write_all(fs, "g")
    ours.stop()
    with isotach.connect(start("ours", mem="0", **tier).address) as fs:
        check_all(fs, contents)
        assert folder_of(fs, "SSD").failure == ""
        check_all(fs, write_all(fs, "h"))


@pytest.mark.fault(
    "tier folder with what only another cluster has", "out of service, untouched, and shown; it serves on"
)
def test_a_folder_with_what_only_another_cluster_has(start: Callable[..., isotach.Cluster], tmp_path: Path) -> None:
    tier = {"worker__tiers": f"SSD:{tmp_path / 'X'}:64MiB"}
    theirs = start("theirs", mem="0", **tier)
    with isotach.connect(theirs.address) as fs:
        precious = write_all(fs, "f", "MUST_CACHE")
    theirs.stop()
    ours = start("ours", **tier)
    with isotach.connect(ours.address) as fs:
        check_all(fs, write_all(fs, "g"))
        assert "belongs to another cluster" in folder_of(fs, "SSD").failure
        assert "holds 20 files" in folder_of(fs, "SSD").failure
        assert folder_of(fs, "MEM").failure == ""
    ours.stop()
    with isotach.connect(start("theirs", mem="0", **tier).address) as fs:
        check_all(fs, precious)


@pytest.mark.fault("`rm -rf` of a cluster's directory, then a new start", "what the old one left in memory is removed")
def test_a_cluster_made_anew_in_its_directory(start: Callable[..., isotach.Cluster], tmp_path: Path) -> None:
    first = start()
    with isotach.connect(first.address) as fs:
        write_all(fs, "f", "MUST_CACHE")
    first.stop()
    containers = first.settings.worker.mem_dir / "containers"
    assert len(os.listdir(containers)) == 20
    shutil.rmtree(tmp_path / "cluster")
    with isotach.connect(start().address) as fs:
        assert os.listdir(containers) == []
        contents = write_all(fs, "g") | write_all(fs, "h", "THROUGH")
        check_all(fs, contents)
