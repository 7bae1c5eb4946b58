"""Links and their like through the client of a real cluster, and through the command line.

Owns: symlink, readlink, link, mkfifo, exchange, and what listing and copying make of them. Never: mounts anything.
"""

import asyncio
import errno

import pytest

import isotach


def test_symbolic_links(real_fs, folder):
    real_fs.mkdir(f"{folder}/d")
    real_fs.write(f"{folder}/d/f", b"hello")
    real_fs.symlink("d/f", f"{folder}/relative")
    real_fs.symlink(f"{folder}/d", f"{folder}/absolute")
    assert real_fs.read(f"{folder}/relative") == b"hello"
    assert real_fs.read(f"{folder}/absolute/f") == b"hello"
    assert real_fs.readlink(f"{folder}/relative") == "d/f"
    info = real_fs.stat(f"{folder}/relative", follow_symlinks=False)
    assert (info.is_symlink, info.is_file, info.target, info.persisted) == (True, False, "d/f", False)
    assert real_fs.stat(f"{folder}/relative").is_file
    with real_fs.open(f"{folder}/absolute/g", "wb") as file:
        file.write(b"through")
    assert real_fs.read(f"{folder}/d/g") == b"through"
    real_fs.write(f"{folder}/relative", b"other", overwrite=True)
    assert real_fs.read(f"{folder}/d/f") == b"other"
    assert [info.name for info in real_fs.list(f"{folder}/absolute")] == ["f", "g"]
    assert [info.name for info in real_fs.list(folder, recursive=True)] == ["absolute", "d", "f", "g", "relative"]
    real_fs.remove(f"{folder}/absolute")
    assert real_fs.exists(f"{folder}/d")
    with pytest.raises(OSError, match="no symbolic link") as refused:
        real_fs.readlink(f"{folder}/d")
    assert refused.value.errno == errno.EINVAL


def test_loops_and_links_to_nothing(real_fs, real_tcp_fs, folder):
    real_fs.symlink("loop", f"{folder}/loop")
    real_fs.symlink("none", f"{folder}/nothing")
    for fs in (real_fs, real_tcp_fs):
        with pytest.raises(OSError, match="symbolic links") as loop:
            fs.read(f"{folder}/loop")
        assert loop.value.errno == errno.ELOOP
        with pytest.raises(FileNotFoundError):
            fs.read(f"{folder}/nothing")
    real_fs.write(f"{folder}/nothing", b"made through the link")
    assert real_fs.read(f"{folder}/none") == b"made through the link"


def test_hard_links_and_what_is_no_file(real_fs, folder):
    real_fs.write(f"{folder}/a", b"one")
    real_fs.link(f"{folder}/a", f"{folder}/b")
    real_fs.write(f"{folder}/b", b"three", overwrite=True)
    assert real_fs.read(f"{folder}/a") == b"three"
    assert {info.links for info in real_fs.list(folder)} == {2}
    real_fs.persist(folder)
    real_fs.remove(f"{folder}/a")
    real_fs.free(f"{folder}/b")
    assert real_fs.read(f"{folder}/b") == b"three"
    real_fs.mkfifo(f"{folder}/pipe")
    assert real_fs.stat(f"{folder}/pipe").kind.name == "FIFO"
    with pytest.raises(OSError, match="holds no bytes"):
        real_fs.read(f"{folder}/pipe")
    assert real_fs.persist(folder) == 0
    real_fs.rename(f"{folder}/pipe", f"{folder}/b", exchange=True)
    assert real_fs.read(f"{folder}/pipe") == b"three"


def test_the_asynchronous_twin(cluster, folder):
    async def scenario():
        async with await isotach.connect_async(cluster.address) as fs:
            await fs.write(f"{folder}/f", b"x")
            await fs.symlink("f", f"{folder}/s")
            await fs.link(f"{folder}/f", f"{folder}/h")
            await fs.mkfifo(f"{folder}/p")
            assert await fs.readlink(f"{folder}/s") == "f"
            assert (await fs.stat(f"{folder}/s", follow_symlinks=False)).is_symlink
            assert (await fs.stat(f"{folder}/h")).links == 2
            assert await fs.read(f"{folder}/s") == b"x"
            await fs.rename(f"{folder}/s", f"{folder}/p", exchange=True)
            assert await fs.readlink(f"{folder}/p") == "f"

    asyncio.run(scenario())
