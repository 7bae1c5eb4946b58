"""What becomes of a mount, and of what programs do in it, when its processes are killed or told to end."""

import contextlib
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from isotach.cli.main import run
from isotach.fuse.kernel.options import parse_options
from isotach.fuse.kernel.stale import errno_of_mount, is_stale, mount_at
from isotach.fuse.plan import plan_of
from isotach.fuse.state import read_state, state_file, wait_for_end
from isotach.run.fuse_supervisor import MountSupervisor
from isotach.run.standalone import Cluster
from isotach.testing.fuse import RealMount

pytestmark = [pytest.mark.fuse, pytest.mark.root]
Mounter = Callable[..., RealMount]
Eventually = Callable[..., object]


def test_a_killed_server_is_replaced_and_readers_go_on(
    mount_of: Mounter, fuse_cluster: Cluster, eventually: Eventually
) -> None:
    mount = mount_of(fuse_cluster)
    data = os.urandom(3_000_000)
    (mount.path / "kept").write_bytes(data)
    with (mount.path / "kept").open("rb", buffering=0) as reader:
        head = reader.read(1000)
        first = mount.kill_server()

        assert (mount.path / "kept").read_bytes() == data, "a new open"
        assert head + reader.read() == data, "the old one"
    (mount.path / "after").write_bytes(b"after")

    assert mount.server_pid != first
    assert mount.state.restarts == 1
    assert (mount.path / "after").read_bytes() == b"after"


def test_what_was_being_written_is_never_lost_silently(mount_of: Mounter, fuse_cluster: Cluster) -> None:
    mount = mount_of(fuse_cluster)
    files = {name: os.open(mount.path / name, os.O_CREAT | os.O_RDWR) for name in ("small", "large", "idle")}
    os.write(files["small"], b"x" * 50)
    os.write(files["large"], b"x" * 2_000_000)
    mount.kill_server()

    for name in ("small", "large"):
        with pytest.raises(OSError, match="Input/output") as caught:
            os.close(files[name])
        assert caught.value.errno == errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        os.fsync(files["idle"])
    with pytest.raises(OSError, match="Input/output"):
        os.close(files["idle"])
    assert [(mount.path / name).stat().st_size for name in files] == [0, 0, 0], "as it was published last"


def test_what_the_former_server_kept_in_the_cache_is_let_go(
    mount_of: Mounter, fuse_cluster: Cluster, eventually: Eventually
) -> None:
    def locked() -> set[int]:
        """Files of the memory tier that are in use: by number."""
        tier = {path.stat().st_ino for path in fuse_cluster.settings.worker.mem_dir.rglob("*") if path.is_file()}
        numbers = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        return tier & {int(line.split()[5].rpartition(":")[2]) for line in numbers if " FLOCK " in line}

    mount = mount_of(fuse_cluster)
    if mount.state.passthrough:
        pytest.skip(f"there is no passthrough here: {mount.state.passthrough}")
    (mount.path / "passed").write_bytes(b"x" * 100_000)
    before = locked()
    with (mount.path / "passed").open("rb"):
        eventually(lambda: len(locked() - before) == 1, message="the open file's lock")
        mine = locked() - before
        mount.kill_server()
        assert isinstance(os.listdir(mount.path), list)
        assert mine <= locked(), "it is open still"

    eventually(lambda: not mine & locked(), message="nobody has it open, so it may be evicted")


def test_requests_wait_for_the_next_server(mount_of: Mounter, fuse_cluster: Cluster) -> None:
    mount = mount_of(fuse_cluster)
    for _ in range(3):
        mount.kill_server()
        assert isinstance(os.listdir(mount.path), list)
    assert mount.server_pid > 0
    assert mount.state.restarts == 3


def test_where_the_kernel_cannot_send_again_the_mount_is_made_anew(
    fuse_cluster: Cluster, tmp_path: Path, eventually: Eventually
) -> None:
    folder = tmp_path / "mnt"
    folder.mkdir()
    plan = plan_of(folder, "/", parse_options([]), {"address": fuse_cluster.address, "dir": str(tmp_path)})
    supervisor = MountSupervisor(plan, plan.settings(), keeps_mount=False)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        eventually(lambda: supervisor.told, timeout=20)
        before = read_state(state_file(tmp_path, folder))
        assert before is not None
        (folder / "anew").write_bytes(b"anew")
        with (folder / "anew").open():  # so that the kernel does not give the old mount's number to the new one
            os.kill(before.server_pid, signal.SIGKILL)
            eventually(lambda: read_state(state_file(tmp_path, folder)) != before, timeout=20)
        after = read_state(state_file(tmp_path, folder))

        assert after is not None
        assert (folder / "anew").read_bytes() == b"anew"
        assert after.identity != before.identity
    finally:
        supervisor.stop()
        thread.join()
    assert mount_at(folder) is None


def test_one_that_dies_again_and_again_is_given_up(mount_of: Mounter, fuse_cluster: Cluster) -> None:
    mount = mount_of(fuse_cluster)
    served = 0
    while mount_at(mount.path) is not None:
        with contextlib.suppress(OSError):
            mount.kill_server()
            served += 1
        errno_of_mount(mount.path, 10)

    assert mount.wait() == 1
    assert served >= 3
    assert "mount_given_up" in mount.log()


def test_a_server_left_alone_unmounts(mount_of: Mounter, fuse_cluster: Cluster, eventually: Eventually) -> None:
    mount = mount_of(fuse_cluster)
    server = mount.server_pid
    os.kill(mount.pid, signal.SIGKILL)

    eventually(lambda: mount_at(mount.path) is None, timeout=20)
    assert wait_for_end(server, 20)


def test_when_both_are_killed_the_next_mount_clears_away(
    fuse_cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mount = RealMount(fuse_cluster.address, tmp_path / "mnt", tmp_path / "state")
    server = mount.server_pid
    os.kill(mount.pid, signal.SIGSTOP)  # so that it neither starts another one, nor leaves this one alone
    os.kill(server, signal.SIGKILL)
    os.kill(mount.pid, signal.SIGKILL)
    mount.wait()
    assert wait_for_end(server, 10)
    assert is_stale(mount.path)
    with pytest.raises(OSError) as caught:
        os.listdir(mount.path)
    assert caught.value.errno == errno.ENOTCONN
    assert run(["fuse", "list", "--set", f"dir={tmp_path / 'state'}"]) == 0
    assert f"{mount.path}\t/\tstale" in capfd.readouterr().out

    again = RealMount(fuse_cluster.address, mount.path, tmp_path / "state")
    try:
        assert isinstance(os.listdir(again.path), list)
    finally:
        again.stop()
    assert mount_at(mount.path) is None


def test_unmounted_from_outside_both_end(mount_of: Mounter, fuse_cluster: Cluster) -> None:
    mount = mount_of(fuse_cluster)
    server = mount.server_pid
    subprocess.run(["umount", str(mount.path)], check=True, timeout=30)

    assert mount.wait() == 0
    assert wait_for_end(server, 10)


def test_told_to_end_it_unmounts(mount_of: Mounter, fuse_cluster: Cluster) -> None:
    mount = mount_of(fuse_cluster)
    (mount.path / "told").write_bytes(b"x")
    os.kill(mount.pid, signal.SIGHUP)
    os.kill(mount.pid, signal.SIGTERM)

    assert mount.wait() == 0
    assert mount_at(mount.path) is None
