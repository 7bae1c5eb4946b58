"""The session on a real mount: requests of real programs, interruptions, notifications, restarts."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from errno import EINTR, EIO, ENODATA, ENOSYS
from pathlib import Path

import msgspec
import pytest

from isotach.fuse.contract import Request
from isotach.fuse.kernel.device import open_device
from isotach.fuse.kernel.readahead import set_read_ahead
from isotach.fuse.protocol.constants import Opcode
from isotach.fuse.protocol.negotiation import Negotiated, Wanted
from isotach.fuse.session import Session

from .conftest import Mounted, ToyTree, mount, unmount

pytestmark = [pytest.mark.root, pytest.mark.fuse]

SHARED_MEMORY = Path("/dev/shm")


def test_a_tree_is_listed_and_read(mounted):
    mounted.start()

    assert sorted(os.listdir(os.fsencode(mounted.folder))) == [b"one", b"two", b"\xff\n"]
    assert (mounted.folder / "one").read_bytes() == b"1" * 10_000
    assert Path(os.fsdecode(os.fsencode(mounted.folder) + b"/\xff\n")).read_bytes() == b"odd"
    assert (mounted.folder / "two").stat().st_mtime_ns == 2
    assert not (mounted.folder / "three").exists()
    assert mounted.session.served["READ"] >= 2


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="no tmpfs at /dev/shm to hold backing files")
def test_passed_through_reads_never_reach_the_daemon(mounted, tmp_path_factory):
    mounted.start()
    if mounted.session.backings.reason_off:
        pytest.skip(f"no passthrough here: {mounted.session.backings.reason_off}")
    folder = SHARED_MEMORY / f"isotach-test-{os.getpid()}-{id(mounted)}"
    folder.mkdir()
    try:
        mounted.tree.passthrough_in = folder
        with (mounted.folder / "one").open("rb") as first, (mounted.folder / "one").open("rb") as second:
            (folder / "2").unlink()  # the kernel keeps the file
            assert first.read() == second.read() == b"1" * 10_000
        assert "READ" not in mounted.session.served
        (backing_id,) = mounted.tree.backing_ids.values()
        mounted.session.backings.unregister(backing_id)
        mounted.session.backings.unregister(backing_id)  # twice does no harm
        assert mounted.session.backings.unregister_all(backing_id) == 0
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_what_cannot_be_passed_through_is_refused_and_nothing_else_is(mounted, tmp_path):
    mounted.start()
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="passthrough"):
            mounted.session.backings.register(reader)
    finally:
        os.close(reader)
        os.close(writer)
    assert mounted.session.backings.reason_off == mounted.negotiated.passthrough_off


def test_errors_of_handlers_reach_the_program_as_errnos(mounted):
    def bug(_: Request) -> bytes:
        raise ZeroDivisionError

    def too_long(_: Request) -> bytes:
        return bytes(1 << 20)

    def nothing_there(_: Request) -> bytes:
        raise OSError(ENODATA, "no such attribute")

    mounted.extra = {Opcode.STATFS: bug, Opcode.READ: too_long, Opcode.GETXATTR: nothing_there}
    mounted.start()
    path = mounted.folder / "one"

    for attempt, number in (
        (lambda: os.statvfs(path), EIO),
        (path.read_bytes, EIO),
        (lambda: os.getxattr(path, "user.a"), ENODATA),
        (lambda: os.mkdir(mounted.folder / "other"), ENOSYS),
    ):
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            attempt()
        assert caught.value.errno == number
    assert path.stat().st_size == 10_000


@pytest.mark.parametrize("clones", [False, True], ids=["shared", "cloned"])
def test_many_threads_are_served_by_several(require_root, require_fuse, no_leaks, tmp_path, clones):
    folder = tmp_path / "mount"
    folder.mkdir()
    content = {f"{number}".encode(): bytes([number]) * number * 100 for number in range(40)}
    mounted = Mounted(folder, content, threads=3, clones=clones)
    mounted.tree.valid = (0, 0)
    mounted.tree.read_later = True

    def read_all(start: int) -> bool:
        order = [(start + step * 7) % 40 for step in range(40)]
        return all((folder / f"{number}").read_bytes() == bytes([number]) * number * 100 for number in order)

    try:
        mounted.start()
        with ThreadPoolExecutor(8) as readers:
            assert all(readers.map(read_all, range(8)))
        assert mounted.session.later.under_way == 0
    finally:
        mounted.end()


def test_notifications_make_long_time_outs_exact(mounted):
    mounted.start()
    tree, notifier, folder = mounted.tree, mounted.session.notifier, mounted.folder
    assert (folder / "two").stat().st_size == 2
    assert not (folder / "new").exists()

    tree.content[b"two"] = b"four"
    tree.names[b"new"], tree.content[b"new"] = 9, b"9"
    assert (folder / "two").stat().st_size == 2
    assert not (folder / "new").exists()
    notifier.inval_inode(tree.names[b"two"], -1)
    notifier.inval_entry(1, b"new")
    assert (folder / "two").stat().st_size == 4
    assert (folder / "new").stat().st_size == 1

    del tree.names[b"new"]
    assert (folder / "new").exists()
    notifier.delete_entry(1, 9, b"new")
    assert not (folder / "new").exists()

    tree.names[b"new"] = 10
    tree.content[b"one"] = b""
    notifier.known_nodes = lambda: list(tree.names.values())
    notifier.inval_all()
    assert (folder / "one").stat().st_size == 0
    if mounted.negotiated.inc_epoch:
        assert (folder / "new").exists()


def test_notifications_of_what_the_kernel_does_not_know_are_nothing(mounted):
    mounted.start()
    notifier = mounted.session.notifier

    notifier.inval_inode(12345)
    notifier.inval_entry(12345, b"x")
    notifier.expire_entry(1, b"x")
    notifier.delete_entry(1, 12345, b"never")
    notifier.store(12345, 0, b"x")
    mounted.end()
    notifier.inval_inode(1)
    notifier.inval_all()


def test_what_is_under_way_at_the_end_is_finished(mounted, eventually):
    release, finished = threading.Event(), threading.Event()

    def publish(_: Request) -> bytes:
        assert release.wait(10)
        finished.set()
        return b""

    mounted.extra = {Opcode.RELEASE: lambda request: mounted.session.later.run("write", request, publish)}
    mounted.start()
    os.close(os.open(mounted.folder / "one", os.O_RDONLY))
    eventually(lambda: mounted.session.under_way == 1)
    unmount(mounted.folder)
    assert not mounted.ended
    release.set()
    eventually(lambda: mounted.ended)

    assert finished.is_set()
    assert mounted.session.under_way == 0


def test_the_kernel_reads_ahead_as_far_as_it_is_told(mounted):
    mounted.start()
    device = mounted.folder.stat().st_dev
    identity = f"{os.major(device)}:{os.minor(device)}"
    shown = Path(f"/sys/class/bdi/{identity}/read_ahead_kb")
    if not os.access(shown, os.W_OK):
        pytest.skip("/sys is not writable here")

    assert set_read_ahead(identity, 1 << 20)
    assert shown.read_text() == "1024\n"
    assert not set_read_ahead("0:0", 1 << 20)


_READER = """
import os, signal, sys
class Woken(Exception): pass
def wake(*_): raise Woken
signal.signal(signal.SIGUSR1, wake)
descriptor = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
try:
    os.read(descriptor, 100)
    print("read", flush=True)
except Woken:
    print("woken", flush=True)
"""


def test_a_signal_ends_a_blocked_read(mounted, eventually):
    entered, interrupted = threading.Event(), threading.Event()

    def blocked(request: Request) -> None:
        mounted.session.later.on_interrupt(request, interrupted.set)
        entered.set()

        def wait(request: Request) -> bytes:
            if interrupted.wait(20):
                raise InterruptedError(EINTR, "a signal")
            return b"never"

        mounted.session.later.run("read", request, wait)

    mounted.extra = {Opcode.READ: blocked}
    mounted.start()
    with subprocess.Popen([sys.executable, "-c", _READER, mounted.folder / "one"], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        assert entered.wait(10)
        reader.send_signal(signal.SIGUSR1)
        assert reader.stdout.readline() == b"woken\n"
    assert interrupted.is_set()
    assert not mounted.session.interrupts.callbacks
    # The kernel may have sent a second wish for the same request after the answer.
    assert len(mounted.session.interrupts.early) <= 1


def test_an_aborted_connection_ends_the_session(mounted, tmp_path, eventually):
    control = tmp_path / "control"
    control.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    mounted.start()
    number = os.minor(mounted.folder.stat().st_dev)
    if libc.mount(b"none", os.fsencode(control), b"fusectl", 0, None):
        pytest.skip("the control file system of FUSE cannot be mounted here")
    try:
        (control / str(number) / "abort").write_text("1")
        eventually(lambda: mounted.ended)
    finally:
        unmount(control)


_FIRST_DAEMON = """
import os, sys, threading
from isotach.fuse.contract import Request
from isotach.fuse.protocol import replies
from isotach.fuse.protocol.constants import Opcode
from isotach.fuse.protocol.negotiation import Wanted
from isotach.fuse.session import Session
import msgspec
from tests.t2_adapters.fuse.conftest import ToyTree

session = Session(int(sys.argv[1]), Wanted(), threads=2)
tree = ToyTree(session, {b"one": b"11"})

def hang(request: Request) -> None:
    os.write(1, b"hangs\\n")
    threading.Event().wait()

session.serve({**tree.handlers(), Opcode.READ: hang})
runner = threading.Thread(target=session.run, daemon=True)
runner.start()
session.ready.wait()
os.write(1, msgspec.json.encode(session.negotiated) + b"\\n")
runner.join()
"""


def test_a_second_daemon_answers_what_the_first_left(require_root, require_fuse, no_leaks, tmp_path, repository):
    folder = tmp_path / "mount"
    folder.mkdir()
    device = open_device()
    mount(device, folder)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", _FIRST_DAEMON, str(device)],
            stdout=subprocess.PIPE,
            pass_fds=[device],
            cwd=repository,
        ) as first:
            assert first.stdout is not None
            inherited = msgspec.json.decode(first.stdout.readline(), type=Negotiated)
            if not inherited.resend:
                first.kill()
                pytest.skip("this kernel cannot send requests again: Linux 6.9 can")
            with ThreadPoolExecutor(1) as programs:
                content = programs.submit((folder / "one").read_bytes)
                assert first.stdout.readline() == b"hangs\n"
                first.kill()
                first.wait()
                second = Session(device, Wanted(), threads=2, inherited=inherited)
                tree = ToyTree(second, {b"one": b"11"})
                second.serve(tree.handlers())
                runner = threading.Thread(target=second.run, args=(10.0,))
                runner.start()
                assert content.result(20) == b"11"
                assert (folder / "one").stat().st_size == 2
            unmount(folder)
            runner.join(20)
            assert not runner.is_alive()
    finally:
        unmount(folder)
        os.close(device)
