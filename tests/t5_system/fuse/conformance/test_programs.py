"""Programs that people use, run as they are: if one of these stumbles, so will its users."""

import json
import mmap
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

MIB = 1 << 20
QUIET = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "LC_ALL": "C"}
AUTHOR = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


def needs(*commands: str) -> pytest.MarkDecorator:
    missing = [each for each in commands if shutil.which(each) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, env=QUIET, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@needs("git", "gcc", "make")
def test_git_and_a_build(place: Path) -> None:
    origin = place / "origin"
    (origin / "src").mkdir(parents=True)
    sources = {f"src/part{n}.c": f"int part{n}(void) {{ return {n}; }}\n" for n in range(12)}
    calls = "+".join(f"part{n}()" for n in range(12))
    declared = "".join(f"int part{n}(void);\n" for n in range(12))
    sources["src/main.c"] = f'#include <stdio.h>\n{declared}int main(void) {{ printf("%d\\n", {calls}); return 0; }}\n'
    sources["Makefile"] = (
        "OBJS=$(patsubst %.c,%.o,$(wildcard src/*.c))\nprog: $(OBJS)\n\t$(CC) -o $@ $^\nclean:\n\trm -f prog src/*.o\n"
    )
    for name, text in sources.items():
        (origin / name).write_text(text)
    run("git", "init", "-q", ".", cwd=origin)
    run("git", "add", ".", cwd=origin)
    run("git", *AUTHOR, "commit", "-qm", "first", cwd=origin)
    run("git", "clone", "-q", origin, place / "clone")
    clone = place / "clone"
    run("make", "-s", "-j2", cwd=clone)
    assert run(clone / "prog").strip() == str(sum(range(12)))
    assert run("git", "status", "--porcelain", "--untracked-files=no", cwd=clone) == ""
    (clone / "src" / "part1.c").write_text("int part1(void) { return 100; }\n")
    run("git", *AUTHOR, "commit", "-qam", "second", cwd=clone)
    run("make", "-s", cwd=clone)
    assert run(clone / "prog").strip() == str(sum(range(12)) + 99)
    run("git", "checkout", "-q", "HEAD~1", cwd=clone)
    run("git", "gc", "-q", cwd=clone)
    run("git", "fsck", "--strict", cwd=clone)


def test_sqlite_with_two_writers(place: Path) -> None:
    path = place / "base.db"
    with sqlite3.connect(path) as base:
        base.execute("create table t (who text, n integer)")
    program = (
        "import sqlite3,sys\nfor n in range(40):\n"
        "  c=sqlite3.connect(sys.argv[1], timeout=60)\n"
        "  with c: c.execute('insert into t values (?,?)',(sys.argv[2],n))\n  c.close()"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), who]) for who in ("a", "b")]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    base = sqlite3.connect(path)
    assert base.execute("select who, count(*), sum(n) from t group by who order by who").fetchall() == [
        ("a", 40, 780),
        ("b", 40, 780),
    ]
    assert base.execute("pragma integrity_check").fetchone() == ("ok",)
    base.close()


def test_sqlite_write_ahead_log(place: Path) -> None:
    base = sqlite3.connect(place / "base.db")
    assert base.execute("pragma journal_mode=wal").fetchone() == ("wal",)
    base.execute("create table t (n integer)")
    with base:
        base.executemany("insert into t values (?)", [(n,) for n in range(5_000)])
    other = sqlite3.connect(place / "base.db")
    assert other.execute("select sum(n) from t").fetchone() == (12_497_500,)
    other.close()
    base.close()
    again = sqlite3.connect(place / "base.db")
    assert again.execute("pragma integrity_check").fetchone() == ("ok",)
    again.close()


def make_tree(folder: Path) -> dict[str, bytes]:
    """Files of many sizes, links and empty folders."""
    chance = random.Random(3)
    content = {}
    for number in range(60):
        name = f"d{number % 5}/e{number % 3}/f{number}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content[name] = chance.randbytes(chance.choice([0, 1, 100, 5_000, 70_000]))
        (folder / name).write_bytes(content[name])
    (folder / "empty").mkdir()
    os.symlink("d0", folder / "link")
    os.link(folder / "d0/e0/f0", folder / "d1/hard")
    content["d1/hard"] = content["d0/e0/f0"]
    return content


def read_tree(folder: Path) -> dict[str, bytes]:
    found = (each for each in folder.rglob("*") if each.is_file() and not each.is_symlink())
    return {str(each.relative_to(folder)): each.read_bytes() for each in found}


def test_tar(place: Path, tmp_path: Path) -> None:
    content = make_tree(place / "tree" if (place / "tree").mkdir() is None else place)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(place / "tree", "tree")
    (place / "out").mkdir()
    run("tar", "-xf", tmp_path / "a.tar", "-C", place / "out")
    run("tar", "-czf", place / "b.tgz", "-C", place, "tree")
    run("tar", "-df", place / "b.tgz", "-C", place)
    assert read_tree(place / "out" / "tree") == content
    assert (place / "out" / "tree" / "d1" / "hard").stat().st_nlink == 2
    assert os.readlink(place / "out" / "tree" / "link") == "d0"


@needs("rsync")
def test_rsync(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    content = make_tree(source)
    run("rsync", "-aH", f"{source}/", place / "copy")
    assert read_tree(place / "copy") == content
    assert run("rsync", "-aHni", "--delete", f"{source}/", place / "copy") == ""  # times and modes are equal, too
    (source / "d0/e0/f0").write_bytes(b"changed")
    (source / "empty").rmdir()
    run("rsync", "-aH", "--delete", "--inplace", f"{source}/", place / "copy")
    assert (place / "copy/d1/hard").read_bytes() == b"changed"
    assert not (place / "copy/empty").exists()


def test_saving_as_editors_do(place: Path) -> None:
    path = place / "notes.txt"
    path.write_text("one")
    path.chmod(0o640)
    number = path.stat().st_ino
    for turn in range(5):  # vim with backupcopy=no: the old one aside, the new one under its name
        os.rename(path, place / "notes.txt~")
        with path.open("w") as file:
            file.write(f"turn {turn}")
            file.flush()
            os.fsync(file.fileno())
        path.chmod(0o640)
        (place / "notes.txt~").unlink()
        assert path.read_text() == f"turn {turn}"
    assert path.stat().st_ino != number
    new = place / ".notes.swp"  # others write beside it and rename over it
    new.write_text("whole")
    os.replace(new, path)
    assert path.read_text() == "whole"
    assert os.listdir(place) == ["notes.txt"]


def test_hdf5(place: Path) -> None:
    h5py = pytest.importorskip("h5py")
    numpy = pytest.importorskip("numpy")
    data = numpy.arange(200_000, dtype="f8").reshape(1_000, 200)
    with h5py.File(place / "f.h5", "w") as file:
        file.create_dataset("chunked", data=data, chunks=(100, 20), compression="gzip")
        file["plain"] = data
    with h5py.File(place / "f.h5", "r+") as file:
        file["plain"][500, :] = -1
        file.create_group("g").attrs["of"] = "later"
        del file["chunked"]
    with h5py.File(place / "f.h5", "r") as file:
        assert (file["plain"][500] == -1).all()
        assert (file["plain"][501] == data[501]).all()
        assert file["g"].attrs["of"] == "later"


def test_numpy_maps(place: Path) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.lib.format.open_memmap(place / "a.npy", mode="w+", dtype="i8", shape=(1_000, 1_000))
    array[:] = numpy.arange(1_000_000).reshape(1_000, 1_000)
    array.flush()
    del array
    again = numpy.load(place / "a.npy", mmap_mode="r+")
    assert int(again.sum()) == 499_999_500_000
    again[3, 4] = 7
    again.flush()
    assert int(numpy.load(place / "a.npy")[3, 4]) == 7


def test_safetensors(place: Path) -> None:
    numpy = pytest.importorskip("numpy")
    tensors = pytest.importorskip("safetensors.numpy")
    from safetensors import safe_open

    weights = {"w": numpy.arange(500_000, dtype="f4"), "b": numpy.ones((3, 5), dtype="f4")}
    tensors.save_file(weights, place / "model.safetensors")
    with safe_open(place / "model.safetensors", framework="numpy") as file:
        assert set(file.keys()) == {"w", "b"}
        assert (file.get_tensor("w") == weights["w"]).all()
        assert float(file.get_slice("w")[499_999:][0]) == 499_999.0
    with (place / "model.safetensors").open("rb") as source:
        length = struct.unpack("<Q", source.read(8))[0]
        assert set(json.loads(source.read(length))) >= {"w", "b"}
        with mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert len(mapped) == (place / "model.safetensors").stat().st_size


def test_pip_installs_into_it(place: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "thing").mkdir(parents=True)
    (project / "thing" / "__init__.py").write_text("answer = 42\n")
    (project / "backend.py").write_text(BACKEND)
    (project / "pyproject.toml").write_text(
        '[project]\nname="thing"\nversion="1"\n[build-system]\nrequires=[]\nbuild-backend="backend"\nbackend-path=["."]\n'
    )
    options = ["--no-index", "--no-build-isolation", "--no-deps", "--quiet", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "install", *options, "--target", place / "site", project)
    program = "import sys; sys.path.insert(0, sys.argv[1]); import thing; print(thing.answer)"
    assert run(sys.executable, "-c", program, place / "site").strip() == "42"


BACKEND = """
import zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    info = "thing-1.dist-info"
    with zipfile.ZipFile(f"{folder}/thing-1-py3-none-any.whl", "w") as wheel:
        wheel.write("thing/__init__.py")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: thing\\nVersion: 1\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "thing-1-py3-none-any.whl"
"""


def test_dd(place: Path) -> None:
    run("dd", "if=/dev/urandom", f"of={place}/f", "bs=1M", "count=8", "status=none")
    first = (place / "f").read_bytes()
    run("dd", "if=/dev/zero", f"of={place}/f", "bs=1k", "seek=100", "count=10", "conv=notrunc", "status=none")
    changed = (place / "f").read_bytes()
    assert changed == first[: 100 << 10] + bytes(10 << 10) + first[110 << 10 :]
    run("dd", f"if={place}/f", f"of={place}/g", "bs=64k", "conv=fsync,sparse", "status=none")
    assert (place / "g").read_bytes() == changed


@needs("fio")
@pytest.mark.parametrize("work", ["write", "randwrite", "randrw"])
def test_fio_verifies_what_it_wrote(place: Path, work: str) -> None:
    run(
        "fio", "--name=v", f"--directory={place}", f"--rw={work}", "--bs=4k-64k", "--size=6M", "--numjobs=2",
        "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--do_verify=1", "--ioengine=psync",
        "--end_fsync=1", "--output=/dev/null",
    )  # fmt: skip


@needs("fio")
def test_fio_by_maps(place: Path) -> None:
    run(
        "fio", "--name=m", f"--directory={place}", "--rw=randrw", "--bs=4k", "--size=4M", "--ioengine=mmap",
        "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--do_verify=1", "--output=/dev/null",
    )  # fmt: skip


STRESSORS = {
    "names": "dentry,dir,link,rename,symlink,touch",
    "rights": "access,chdir,chmod,chown,fstat,mknod,open,utime,xattr",
    "bytes": "copy-file,fallocate,fpunch,hdd,iomix,seek",
    "locks": "fcntl,flock,locka,lockf,lockofd",
}
BOUNDS = "--hdd-bytes 4M --iomix-bytes 4M --fallocate-bytes 4M --seek-size 4M --dentries 100"


@needs("stress-ng")
@pytest.mark.parametrize("kind", STRESSORS)
def test_stress(place: Path, kind: str) -> None:
    """The file stressors of stress-ng with their own checks, all of a kind at once, for a second."""
    started = [word for name in STRESSORS[kind].split(",") for word in (f"--{name}", "1")]
    run("stress-ng", *started, "-t", "1", "--verify", "--temp-path", place, *BOUNDS.split(), "--quiet")


def test_many_threads_making_and_removing(place: Path) -> None:
    """What mdtest does: each in a tree of its own, then in one another's."""

    def tree(number: int) -> int:
        folder = place / f"t{number}"
        folder.mkdir()
        for each in range(60):
            (folder / f"f{each}").write_bytes(b"%d" % each)
        total = sum(int((folder / f"f{each}").read_bytes()) for each in range(60))
        for each in range(60):
            (folder / f"f{each}").unlink()
        folder.rmdir()
        return total

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tree, range(4))) == [1_770] * 4
    assert os.listdir(place) == []


def test_a_log_is_followed(place: Path) -> None:
    """A reader that keeps a file open sees what a writer adds to it, from its next read on."""
    path = place / "log"
    path.touch()
    with path.open("a") as writer, path.open("r") as reader:
        for turn in range(20):
            writer.write(f"line {turn}\n")
            writer.flush()
            assert reader.readline() == f"line {turn}\n"
    deadline = time.monotonic() + 20
    follow = ["tail", "-n", "0", "-f", str(path)]
    with path.open("a", buffering=1) as writer, subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        while not _readable(follower.stdout.fileno(), 0.2) and time.monotonic() < deadline:
            writer.write("again\n")
        assert follower.stdout.readline() == "again\n"
        follower.kill()


def _readable(descriptor: int, seconds: float) -> bool:
    import select

    return bool(select.select([descriptor], [], [], seconds)[0])
