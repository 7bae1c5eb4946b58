"""Real mounts for tests and benchmarks: the processes that `isotach fuse mount` starts, and their sure end.

Owns: starting, killing and clearing away. Never: looks into a mount's processes; what they do shows in the folder.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from isotach.base.limits import FUSE_START_S
from isotach.fuse.kernel.mounting import unmount
from isotach.fuse.kernel.options import parse_options
from isotach.fuse.kernel.stale import errno_of_mount, mount_at
from isotach.fuse.plan import plan_of
from isotach.fuse.state import MountState, is_process, read_state, state_file, wait_for_end
from isotach.run.lifecycle import parse_report

_END_S = 20.0


class HasAddress(Protocol):
    """A cluster, or whatever tells where one is."""

    @property
    def address(self) -> str: ...


class RealMount:
    """A mount of a cluster at `path`, in processes of its own. `folder` holds its note and its log."""

    def __init__(self, address: str, path: Path, folder: Path, source: str = "/", *options: str) -> None:
        """Mounts, and returns once the folder answers. Raises what the processes raise."""
        self.path = path.absolute()
        self.folder = folder
        self.log_file = folder / f"{path.name}.log"
        with contextlib.suppress(FileExistsError):  # also as a dead mount, of which nothing can be asked
            path.mkdir(parents=True)
        folder.mkdir(parents=True, exist_ok=True)
        overrides = {"address": address, "dir": str(folder)}
        self.plan = plan_of(self.path, source, parse_options(options), overrides)
        report_read, report_write = os.pipe()
        command = [sys.executable, "-m", "isotach.run.fuse_main", "--plan", msgspec.json.encode(self.plan).decode()]
        self._process = subprocess.Popen(
            [*command, "--ready-fd", str(report_write), "--log-file", str(self.log_file)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            pass_fds=(report_write,),
            start_new_session=True,
        )
        os.close(report_write)
        try:
            with os.fdopen(report_read, "rb") as stream:
                line = stream.readline()
            if not line:
                raise OSError(errno.EIO, f"the mount ended while starting: {self.log()}")
            parse_report(line)
            number = errno_of_mount(self.path, FUSE_START_S)
            if number:
                raise OSError(number, f"the mount does not answer: {self.log()}")
        except BaseException:
            self.clear()
            raise

    @property
    def state(self) -> MountState:
        """What the mount says of itself."""
        found = read_state(state_file(self.folder, self.path))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, f"{self.path} has no note: its process has ended")
        return found

    @property
    def pid(self) -> int:
        """The process that keeps the mount."""
        return self._process.pid

    @property
    def server_pid(self) -> int:
        """The process that serves it at present; while another is being started, that one, once it serves."""
        deadline = time.monotonic() + _END_S
        while time.monotonic() < deadline:
            pid = self.state.server_pid
            if is_process(pid):
                return pid
            time.sleep(0.01)
        raise TimeoutError(errno.ETIMEDOUT, f"nobody serves {self.path}: {self.log()}")

    def log(self) -> str:
        """What its processes have logged so far."""
        return self.log_file.read_text(errors="replace")[-4000:] if self.log_file.exists() else ""

    def kill_server(self) -> int:
        """`kill -9` of the process that serves; its id. It is gone when this returns; the next one may not be there."""
        pid = self.server_pid
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid, _END_S)
        return pid

    def wait(self, timeout_s: float = _END_S) -> int:
        """The exit code of the keeping process, once it has ended."""
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """Unmounts, busy or not, and waits until what was written is published."""
        with contextlib.suppress(OSError):
            if mount_at(self.path) is not None:
                unmount(self.path, lazy=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S / 2)
        self.clear()

    def clear(self) -> None:
        """Ends whatever is left: first in order, then by force, then the mount itself."""
        server = 0
        with contextlib.suppress(OSError):
            server = self.state.server_pid
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if server > 0 and not wait_for_end(server, _END_S / 4):
            os.kill(server, signal.SIGKILL)
        while mount_at(self.path) is not None:
            unmount(self.path, lazy=True)


@contextlib.contextmanager
def mounted(
    cluster: HasAddress, folder: Path, *, source: str = "/", name: str = "", **options: object
) -> Iterator[Path]:
    """A folder that shows `source` of the cluster, unmounted at the end. `options` as behind `-o`:
    `write_type="THROUGH"`, `training=True`, `ro=True`; a double underscore is the dot of a key (`client__user="x"`)."""
    with real_mount(cluster, folder, source=source, name=name, **options) as mount:
        yield mount.path


@contextlib.contextmanager
def real_mount(
    cluster: HasAddress, folder: Path, *, source: str = "/", name: str = "", **options: object
) -> Iterator[RealMount]:
    """The same, for tests that also want its processes."""
    unique = f"{name or 'mnt'}-{os.urandom(3).hex()}"
    words = [_word(option.replace("__", "."), value) for option, value in options.items()]
    mount = RealMount(cluster.address, folder / unique, folder / f"{unique}-state", source, *words)
    try:
        yield mount
    finally:
        mount.stop()


def _word(name: str, value: object) -> str:
    if value is True:
        return name if "." not in name else f"{name}=true"
    if value is False:
        return f"no{name}" if name in ("allow_other", "default_permissions") else f"{name}=false"
    return f"{name}={str(value).replace(',', chr(92) + ',')}"
