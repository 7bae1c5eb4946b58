"""Mounting and unmounting with real processes on a real kernel: by command, by mount(8), by users, with options."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import isotach
from isotach.base.errors import IsotachError
from isotach.cli.main import run
from isotach.fuse.kernel import mounting
from isotach.fuse.kernel.options import FS_TYPE, parse_options
from isotach.fuse.kernel.stale import errno_of_mount, mount_at, parse_mountinfo
from isotach.fuse.kernel.support import user_allow_other
from isotach.fuse.state import wait_for_end
from isotach.run.standalone import Cluster
from isotach.testing.fuse import RealMount, real_mount

pytestmark = [pytest.mark.fuse, pytest.mark.root]
Mounter = Callable[..., RealMount]
Eventually = Callable[..., object]
Runner = Callable[..., subprocess.CompletedProcess[str]]


def isotach_command(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isotach.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


class TestTheCommand:
    def test_mount_list_use_unmount(self, fuse_cluster: Cluster, tmp_path: Path) -> None:
        folder, where = tmp_path / "mnt", ("--set", f"dir={tmp_path}", "--address", fuse_cluster.address)
        folder.mkdir()
        try:
            mounted = isotach_command("fuse", "mount", folder, *where)
            (folder / "a").mkdir(exist_ok=True)
            (folder / "a" / "hello").write_bytes(b"hello")
            listed = isotach_command("fuse", "list", "--json", *where)
            with isotach.connect(fuse_cluster.address) as fs:
                seen = fs.read("/a/hello")
            unmounted = isotach_command("fuse", "umount", folder, *where)
        finally:
            with contextlib.suppress(OSError):
                mounting.unmount(folder, lazy=True)

        assert (mounted.returncode, mounted.stdout, mounted.stderr) == (0, "", "")
        assert f'"mountpoint": "{folder}"' in listed.stdout
        assert '"state": "served"' in listed.stdout
        assert seen == b"hello"
        assert (unmounted.returncode, unmounted.stderr) == (0, "")
        assert mount_at(folder) is None
        assert list(folder.iterdir()) == []
        assert list((tmp_path / "fuse").glob("*.json")) == []

    def test_a_directory_of_the_namespace_alone(self, mount_of: Mounter, fuse_cluster: Cluster) -> None:
        with isotach.connect(fuse_cluster.address) as fs:
            fs.mkdir("/alone/below", parents=True)
            fs.write("/alone/file", b"x" * 10)
        mount = mount_of(fuse_cluster, source="/alone")

        assert sorted(os.listdir(mount.path)) == ["below", "file"]

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["-o", "allow_othr"], "did you mean allow_other?"),
            (["-o", "write_type=SOMEHOW"], "fuse.write_type"),
            (["-o", "threads=0"], "fuse.threads"),
        ],
    )
    def test_a_wrong_option_is_told_at_once(
        self,
        words: list[str],
        told: str,
        fuse_cluster: Cluster,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        assert run(["fuse", "mount", str(tmp_path), *words, "--address", fuse_cluster.address]) == 2
        assert told in capfd.readouterr().err
        assert mount_at(tmp_path) is None

    def test_what_cannot_be_mounted_is_told(
        self, fuse_cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        where = ("--set", f"dir={tmp_path}", "--address", fuse_cluster.address)
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()

        assert run(["fuse", "mount", str(tmp_path / "absent"), *where]) == 3
        assert "make the folder first" in capfd.readouterr().err
        assert run(["fuse", "mount", str(tmp_path / "file"), *where]) == 10
        assert "no folder" in capfd.readouterr().err
        assert run(["fuse", "mount", "/no/such/thing", str(tmp_path / "folder"), *where]) == 3
        assert "/no/such/thing" in capfd.readouterr().err
        assert mount_at(tmp_path / "folder") is None

    def test_without_a_cluster_nothing_stays_mounted(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "mnt"
        folder.mkdir()
        where = ("--set", f"dir={tmp_path}", "--set", "client.retry_total=0")

        assert run(["fuse", "mount", str(folder), "--address", f"isotach+unix://{tmp_path}/nobody", *where]) == 6
        assert mount_at(folder) is None

    def test_a_second_mount_on_the_same_folder_is_refused(self, fuse_mount: RealMount) -> None:
        with pytest.raises(OSError, match="is a mount of Isotach already") as caught:
            mounting.check_mountpoint(fuse_mount.path)

        assert caught.value.errno == errno.EBUSY

    def test_in_the_foreground_until_a_signal(self, fuse_cluster: Cluster, tmp_path: Path) -> None:
        folder = tmp_path / "mnt"
        folder.mkdir()
        words = ["--set", f"dir={tmp_path}", "--address", fuse_cluster.address]
        process = subprocess.Popen([sys.executable, "-m", "isotach.cli", "fuse", "mount", "-f", folder, *words])
        try:
            deadline = 20.0
            while mount_at(folder) is None and process.poll() is None and deadline > 0:
                deadline -= 0.05
                threading.Event().wait(0.05)
            assert errno_of_mount(folder, 20) == 0
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
        assert mount_at(folder) is None

    def test_the_helper_of_mount_8(self, fuse_cluster: Cluster, tmp_path: Path) -> None:
        folder = tmp_path / "mnt"
        folder.mkdir()
        options = f"rw,_netdev,address={fuse_cluster.address},dir={tmp_path}"
        command = [sys.executable, "-m", "isotach.cli.fuse.helper", "isotach:/", str(folder), "-s", "-o", options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        try:
            assert (done.returncode, done.stderr) == (0, "")
            assert os.listdir(folder) is not None
        finally:
            mounting.unmount(folder)


class TestABusyMount:
    def test_the_refusal_names_who_uses_it(self, mount_of: Mounter, fuse_cluster: Cluster) -> None:
        mount = mount_of(fuse_cluster)
        sleeper = subprocess.Popen(["sleep", "60"], cwd=mount.path)
        try:
            with pytest.raises(OSError, match=f"sleep .process {sleeper.pid}: its folder is") as caught:
                mounting.unmount(mount.path)
            assert caught.value.errno == errno.EBUSY
            assert os.listdir(mount.path) is not None, "it is served all the same"
        finally:
            sleeper.kill()
            sleeper.wait()
        mounting.unmount(mount.path)
        assert mount.wait() == 0

    def test_lazily_its_users_go_on(self, mount_of: Mounter, fuse_cluster: Cluster) -> None:
        mount = mount_of(fuse_cluster)
        data = os.urandom(100_000)
        (mount.path / "lazy").write_bytes(data)
        with (mount.path / "lazy").open("rb") as reader:
            half = reader.read(50_000)
            mounting.unmount(mount.path, lazy=True)
            assert os.listdir(mount.path) == []
            assert half + reader.read() == data
        assert mount.wait() == 0


class TestAsAUser:
    """`nobody` mounts, by fusermount3."""

    @pytest.fixture
    def home(self) -> Iterator[Path]:
        """Of nobody, with a folder `mnt`."""
        if shutil.which("fusermount3") is None or shutil.which("nsenter") is None:
            pytest.skip("needs fusermount3 (Debian: fuse3) and nsenter")
        home = Path(tempfile.mkdtemp(prefix="isotach-nobody-", dir="/tmp"))
        (home / "mnt").mkdir()
        for path in (home, home / "mnt"):
            os.chown(path, 65534, 65534)
        yield home
        shutil.rmtree(home, ignore_errors=True)

    @pytest.fixture
    def as_nobody(self, home: Path) -> Iterator[Runner]:
        """Runs commands as nobody where /dev/fuse is open to all, as udev makes it: in mount tables of their own."""
        device = "mount -t tmpfs -o mode=755 none /mnt && mknod -m 666 /mnt/fuse c 10 229"
        # Copies of other tests' mounts would keep those alive.
        others = f"grep ' - {FS_TYPE} ' /proc/self/mountinfo | cut -d' ' -f5 | xargs -r -n 1 umount -l"
        script = f"{others}; {device} && mount --bind /mnt/fuse /dev/fuse && echo ready && exec sleep 600"
        tables = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        holder = subprocess.Popen(tables, stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        if holder.stdout.readline().strip() != "ready":
            pytest.skip("needs the right to make mount tables (unshare) and device nodes")
        # The capability opens the folders of this interpreter, wherever it lies; mounting is another one.
        capability = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *capability]

        def run(*words: object) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["nsenter", f"--target={holder.pid}", "--mount", *user, *map(str, words)],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
                env={**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/",
            )

        yield run
        run("fusermount3", "-u", "-z", home / "mnt")
        with holder, holder.stdout:
            holder.kill()

    @pytest.fixture
    def isotach_as_nobody(self, home: Path, as_nobody: Runner, fuse_cluster: Cluster) -> Runner:
        where = ("--address", fuse_cluster.tcp_address, "--set", f"dir={home}")
        return lambda *words: as_nobody(sys.executable, "-m", "isotach.cli", *words, *where)

    def test_mount_use_unmount(
        self, home: Path, as_nobody: Runner, isotach_as_nobody: Runner, fuse_cluster: Cluster
    ) -> None:
        folder = f"/{home.name}"
        with isotach.connect(fuse_cluster.address) as fs:
            fs.mkdir(folder)
            fs.chown(folder, "nobody")
            fs.write(f"{folder}/of-root", b"of root")
        mounted = isotach_as_nobody("fuse", "mount", folder, home / "mnt")
        assert (mounted.returncode, mounted.stderr) == (0, "")
        table = as_nobody("cat", "/proc/self/mountinfo").stdout
        rows = {row.mountpoint: row for row in parse_mountinfo(table.encode()) if row.fs_type == FS_TYPE}
        row = rows[os.fsencode(home / "mnt")]
        assert "user_id=65534" in row.options
        assert "allow_other" not in row.options

        script = f"cat {home}/mnt/of-root; echo mine > {home}/mnt/mine; echo no >> {home}/mnt/of-root"
        used = as_nobody("sh", "-c", script)
        assert used.stdout == "of root"
        assert "ermission denied" in used.stderr
        unmounted = isotach_as_nobody("fuse", "unmount", home / "mnt")
        assert (unmounted.returncode, unmounted.stderr) == (0, "")
        with isotach.connect(fuse_cluster.address) as fs:
            assert fs.read(f"{folder}/mine") == b"mine\n"
            assert fs.stat(f"{folder}/mine").owner == "nobody"
            assert fs.read(f"{folder}/of-root") == b"of root"

    def test_others_are_let_in_only_where_root_allows_it(self, home: Path, isotach_as_nobody: Runner) -> None:
        if user_allow_other().ok:
            pytest.skip("needs a machine whose /etc/fuse.conf does not have user_allow_other")
        done = isotach_as_nobody("fuse", "mount", home / "mnt", "-o", "allow_other")

        assert done.returncode == 2
        assert "/etc/fuse.conf" in done.stderr


class TestByFusermount:
    """The same way of mounting by root, for machines where nobody else may."""

    def test_auto_unmount_goes_by_fusermount(
        self, fuse_cluster: Cluster, tmp_path: Path, eventually: Eventually
    ) -> None:
        if shutil.which("fusermount3") is None:
            pytest.skip("needs fusermount3 (Debian: fuse3)")
        with real_mount(fuse_cluster, tmp_path, auto_unmount=True) as mount:
            assert isinstance(os.listdir(mount.path), list)
            server = mount.server_pid
            os.kill(mount.pid, signal.SIGSTOP)
            os.kill(server, signal.SIGKILL)
            # fusermount3 looks once, and takes away only what is dead by then.
            assert wait_for_end(server, 10)
            os.kill(mount.pid, signal.SIGKILL)
            mount.wait()

            eventually(lambda: mount_at(mount.path) is None, message="nobody is left, and it goes all the same")


class TestWithoutTheDevice:
    def test_the_error_says_what_to_do(self, tmp_path: Path) -> None:
        script = (
            "import os, ctypes; from pathlib import Path\n"
            "assert ctypes.CDLL(None).unshare(0x00020000) == 0\n"  # CLONE_NEWNS: this process alone loses the device
            "libc = ctypes.CDLL(None)\n"
            "assert libc.mount(b'none', b'/', None, ctypes.c_ulong(0x44000), None) == 0\n"
            "assert libc.mount(b'none', b'/dev', b'tmpfs', ctypes.c_ulong(0), None) == 0\n"
            "from isotach.fuse.kernel.support import device\n"
            "from isotach.fuse.kernel.mounting import mount\n"
            "from isotach.fuse.kernel.options import MountOptions\n"
            "found = device()\n"
            "assert not found.ok and 'modprobe fuse' in found.remedy, found\n"
            f"try: mount(Path({str(tmp_path)!r}), 'x', MountOptions())\n"
            "except OSError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)

        assert done.returncode == 0, done.stderr
        assert "modprobe fuse" in done.stdout


def test_doctor_tells_all(fuse_cluster: Cluster, tmp_path: Path) -> None:
    done = isotach_command("doctor", "--address", fuse_cluster.address)
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}

    assert done.returncode == 0, done.stdout
    assert rows["/dev/fuse"][0] == "yes"
    assert rows["cluster"][0] == "yes"
    assert rows["worker of this host"][0] == "yes"
    assert {"passthrough", "kernel", "fusermount3", "memory tier", "open files"} <= rows.keys()
    assert all(len(row) == 3 for row in rows.values())


def test_options_reach_the_kernel(mount_of: Mounter, fuse_cluster: Cluster) -> None:
    mount = mount_of(fuse_cluster, ro=True, noexec=True, fsname="my,data", max_read=131072)
    row = mount_at(mount.path)

    assert row is not None
    assert row.source == b"my,data"
    assert {"ro", "noexec", "nosuid", "nodev"} <= set(row.options.split(","))
    with pytest.raises(OSError, match="Read-only") as caught:
        (mount.path / "new").touch()
    assert caught.value.errno == errno.EROFS


def test_shown_owners_and_umask(mount_of: Mounter, fuse_cluster: Cluster) -> None:
    with isotach.connect(fuse_cluster.address) as fs:
        fs.write("/shown", b"x")
    mount = mount_of(fuse_cluster, uid=1234, gid=2345, umask="077")
    status = (mount.path / "shown").stat()

    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 2345, 0o600)


def test_allow_root_turns_others_away(mount_of: Mounter, fuse_cluster: Cluster) -> None:
    mount = mount_of(fuse_cluster, allow_root=True)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls", str(mount.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode != 0
    assert isinstance(os.listdir(mount.path), list)


def test_a_wrong_option_in_the_library(tmp_path: Path) -> None:
    with pytest.raises(IsotachError):
        parse_options(["no_such_thing"])
