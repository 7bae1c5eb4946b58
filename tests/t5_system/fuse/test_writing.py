"""Programs that write to a mount, and what becomes of it when something fails under them.

Owns: what only a real kernel and whole processes show of writing. Never: repeats what POSIX promises anyhow
(`conformance` asks that).
"""

import errno
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import isotach
from isotach.run.standalone import Cluster
from isotach.testing.fuse import RealMount

pytestmark = [pytest.mark.fuse, pytest.mark.root]
MIB = 1 << 20
Mounter = Callable[..., RealMount]
Eventually = Callable[..., object]


def _seen(fs: isotach.FileSystem, mount: RealMount, path: Path) -> bytes:
    """What other programs of the cluster read."""
    return fs.read(f"/{path.relative_to(mount.path)}")


def test_dd_and_its_like(fuse_dir: Path, fuse_mount: RealMount, fuse_fs: isotach.FileSystem) -> None:
    target = fuse_dir / "made"
    source = fuse_dir.parent / f"{fuse_dir.name}.source"
    source.write_bytes(os.urandom(5 * MIB))
    subprocess.run(["dd", f"if={source}", f"of={target}", "bs=128k", "status=none"], check=True, timeout=60)
    expected = bytearray(source.read_bytes())
    assert _seen(fuse_fs, fuse_mount, target) == expected
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={target}", "bs=1k", "seek=1000", "count=7", "conv=notrunc", "status=none"],
        check=True,
        timeout=60,
    )
    expected[1_024_000 : 1_024_000 + 7_168] = bytes(7_168)
    assert _seen(fuse_fs, fuse_mount, target) == expected
    subprocess.run(["truncate", "-s", "2000000", str(target)], check=True, timeout=60)
    subprocess.run(["sh", "-c", f"echo end >> {target}"], check=True, timeout=60)
    assert _seen(fuse_fs, fuse_mount, target) == bytes(expected[:2_000_000]) + b"end\n"
    source.unlink()


def test_maps_are_published(fuse_dir: Path, fuse_mount: RealMount, fuse_fs: isotach.FileSystem) -> None:
    path = fuse_dir / "mapped"
    path.write_bytes(bytes(3 * MIB))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[2 * MIB : 2 * MIB + 6] = b"mapped"
        mapping.flush()
        assert file.seek(2 * MIB) == 2 * MIB
        assert file.read(6) == b"mapped"
    expected = bytes(2 * MIB) + b"mapped" + bytes(MIB - 6)
    assert path.read_bytes() == expected
    assert _seen(fuse_fs, fuse_mount, path) == expected


def test_file_that_is_renamed_over_is_read_on(
    fuse_dir: Path, fuse_mount: RealMount, fuse_fs: isotach.FileSystem
) -> None:
    old, new = fuse_dir / "old", fuse_dir / "new"
    old.write_bytes(b"old" * 100_000)
    with old.open("r+b", buffering=0) as held:
        held.write(b"OLD")
        new.write_bytes(b"new")
        new.rename(old)
        held.seek(0)
        assert held.read(6) == b"OLDold"
        held.write(b"lost")
    assert old.read_bytes() == b"new"
    assert _seen(fuse_fs, fuse_mount, old) == b"new"


def test_removed_file_is_written_on_and_leaves_nothing(fuse_dir: Path, fuse_fs: isotach.FileSystem) -> None:
    path = fuse_dir / "gone"
    with path.open("w+b", buffering=0) as file:
        file.write(b"first")
        path.unlink()
        file.write(b" second" * 300_000)
        file.seek(0)
        assert file.read(12) == b"first second"
        assert os.fstat(file.fileno()).st_size == 5 + 7 * 300_000
    assert list(fuse_dir.iterdir()) == []
    assert not fuse_fs.exists(f"/{fuse_dir.name}/gone")


def test_readers_see_what_writers_write_before_any_close(fuse_dir: Path) -> None:
    path = fuse_dir / "shared"
    with path.open("wb", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        for number in range(5):
            writer.write(bytes([number]) * 400_000)
            assert reader.read(400_000) == bytes([number]) * 400_000
    assert path.stat().st_size == 2_000_000


def test_full_tier_is_told_by_write_or_close(start: Callable[..., Cluster], mount_of: Mounter) -> None:
    mount = mount_of(start(mem="32MiB"), write_type="MUST_CACHE")
    (mount.path / "kept").write_bytes(b"k" * 4 * MIB)
    with pytest.raises(OSError, match="No space") as full:
        (mount.path / "large").write_bytes(bytes(64 * MIB))
    assert full.value.errno == errno.ENOSPC
    (mount.path / "large").unlink()
    (mount.path / "fits").write_bytes(b"f" * 8 * MIB)
    assert (mount.path / "kept").read_bytes() == b"k" * 4 * MIB
    assert (mount.path / "fits").read_bytes() == b"f" * 8 * MIB


@pytest.mark.parametrize("write_type", ["ASYNC_THROUGH", "CACHE_THROUGH"])
def test_what_was_synced_outlives_a_killed_daemon(
    fuse_cluster: Cluster, mount_of: Mounter, eventually: Eventually, tmp_path: Path, write_type: str
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    name = f"store-{os.urandom(3).hex()}"
    with isotach.connect(fuse_cluster.address) as fs:
        fs.mount(f"/{name}", str(store))
        mount = mount_of(fuse_cluster, write_type=write_type)
        content = os.urandom(3 * MIB)
        program = (
            "import os, sys, time\n"
            "file = open(sys.argv[1], 'wb', buffering=0)\n"
            "file.write(sys.stdin.buffer.read())\n"
            "os.fsync(file.fileno())\n"
            "print('synced', flush=True)\n"
            "time.sleep(600)\n"
        )
        path = mount.path / name / "f"
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdin.write(content)
            writer.stdin.close()
            assert writer.stdout.readline() == b"synced\n"
            mount.kill_server()
            writer.kill()
        eventually(lambda: fs.read(f"/{name}/f") == content, timeout=30)
        fs.persist(f"/{name}", wait=True)
        assert (store / "f").read_bytes() == content
        fs.unmount(f"/{name}")


@pytest.mark.parametrize("point", ["fuse.before_publish", "fuse.after_publish", "fuse.after_sync"])
def test_daemon_killed_at_each_step(
    fuse_cluster: Cluster,
    mount_of: Mounter,
    eventually: Eventually,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    """The file has its old content or the new one, whole: the new one, once close or fsync returned."""
    once, name = tmp_path / "once", f"crash-{os.urandom(3).hex()}"
    old, new = b"old" * MIB, b"new!" * MIB
    with isotach.connect(fuse_cluster.address) as fs:
        fs.write(f"/{name}", old)
        monkeypatch.setenv("ISOTACH_TEST_FAILPOINT", f"{point}@{once}")
        mount = mount_of(fuse_cluster, write_type="ASYNC_THROUGH")
        try:
            with (mount.path / name).open("r+b", buffering=0) as file:
                file.write(new)
                os.fsync(file.fileno())
        except OSError:
            pass
        assert once.exists()
        allowed = [new] if point == "fuse.after_sync" else [old, new]
        eventually(lambda: fs.read(f"/{name}") in allowed, timeout=30)
        fs.remove(f"/{name}")


def test_writes_through_the_kernel_itself(fuse_cluster: Cluster, mount_of: Mounter, eventually: Eventually) -> None:
    mount = mount_of(fuse_cluster, write_passthrough="on")
    name = f"kernel-{os.urandom(3).hex()}"
    path = mount.path / name
    content = os.urandom(40 * MIB)
    with path.open("w+b", buffering=0) as file:
        for at in range(0, len(content), MIB):
            file.write(content[at : at + MIB])
        assert os.fstat(file.fileno()).st_size == len(content)
        assert path.stat().st_size == len(content)
        assert os.pread(file.fileno(), 100, 30 * MIB) == content[30 * MIB : 30 * MIB + 100]
    with isotach.connect(fuse_cluster.address) as fs:
        eventually(lambda: fs.stat(f"/{name}").length == len(content))
        assert fs.read(f"/{name}") == content
    assert path.read_bytes() == content
    path.unlink()


def test_two_programs_append_to_one_log(fuse_dir: Path) -> None:
    path = fuse_dir / "log"
    program = (
        "import os, sys\n"
        "file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "for number in range(100): os.write(file, sys.argv[2].encode() * 79 + b'\\n')\n"
    )
    threads = [
        threading.Thread(
            target=subprocess.run,
            args=([sys.executable, "-c", program, str(path), letter],),
            kwargs={"check": True, "timeout": 60},
        )
        for letter in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_text().splitlines()
    assert sorted(set(lines)) == ["a" * 79, "b" * 79]
    assert len(lines) == 200
