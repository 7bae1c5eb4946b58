"""The process that serves a mount: its connection to the cluster, its session, and its end.

Owns: the order of start and stop. Never: mounts (who started it did), or knows what a request means (`filesystem`).

It ends when the mount does. Told to stop (or left alone by the process that keeps the mount) it unmounts: at once if
nobody uses the folder, else lazily, and waits for the users; then what is open is published as it is.
"""

import contextlib
import errno
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from isotach.base.errors import IsotachError
from isotach.base.limits import FUSE_START_S, FUSE_STOP_WAIT_S
from isotach.client.connecting import open_link
from isotach.conf import Settings
from isotach.fuse.filesystem import MountedFileSystem
from isotach.fuse.kernel.mounting import unmount
from isotach.fuse.kernel.readahead import set_read_ahead
from isotach.fuse.kernel.stale import mount_at
from isotach.fuse.kernel.support import raise_file_limit
from isotach.fuse.plan import MountPlan
from isotach.fuse.protocol.negotiation import Negotiated
from isotach.obs.log import get_logger

log: Final = get_logger("fuse.daemon")


class Daemon:
    """Serves the open device of a mount. `run` blocks; `stop` may be called by a signal handler.

    `negotiated`: what a former process agreed on with the kernel for this mount, as it told it; empty: it is new.
    """

    def __init__(self, plan: MountPlan, settings: Settings, device: int, negotiated: str) -> None:
        """Connects to the cluster. Raises UnavailableError where none answers, or what else it says."""
        raise_file_limit()
        self._plan = plan
        self._path = Path(plan.mountpoint)
        row = mount_at(self._path)
        self._identity = "" if row is None else row.device
        self._read_ahead = settings.fuse.read_ahead
        self._link = open_link(_as_patient_as_the_mount(settings))
        inherited = msgspec.json.decode(negotiated, type=Negotiated) if negotiated else None
        self._files = MountedFileSystem(plan, settings, self._link, device, inherited)
        # Written to by `stop` and by the session's end. No Event: a signal handler that sets the one that its own
        # thread is about to wait for waits for itself.
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ended = threading.Event()
        self._failure: BaseException | None = None

    @property
    def address(self) -> str:
        """The master's."""
        return str(self._link.address)

    @property
    def negotiated(self) -> str:
        """For the process that may take this one's place."""
        return msgspec.json.encode(self._files.session.negotiated).decode()

    @property
    def resend(self) -> bool:
        """Whether the kernel can send requests again to that process."""
        return self._files.session.negotiated.resend

    @property
    def passthrough_off(self) -> str:
        """Why hot reads go through the daemon; empty: they do not."""
        return self._files.session.backings.reason_off

    @property
    def wake_fd(self) -> int:
        """Whatever is written to this descriptor asks for the end: for `signal.set_wakeup_fd`. The kernel may hand a
        signal to any thread, and Python's own handler then waits until the main thread happens to wake up."""
        return self._wake_write

    def stop(self) -> None:
        """Asks for a clean end. Safe in a signal handler."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def run(self, tell_ready: Callable[[], None]) -> None:
        """Serves until the mount ends or `stop`. Raises what kept it from being served."""
        thread = threading.Thread(target=self._serve, name="isotach-fuse-0", daemon=True)
        self._files.start()
        thread.start()
        try:
            if not self._files.session.ready.wait(FUSE_START_S):
                raise IsotachError(f"the kernel did not begin to ask within {FUSE_START_S:.0f} s: unmount, mount again")
            if self._failure is not None:
                raise self._failure
            tell_ready()
            set_read_ahead(self._identity, self._read_ahead)
            self._files.forget_former()
            log.info("mount_served", mountpoint=self._plan.mountpoint, passthrough_off=self.passthrough_off)
            select.select([self._wake_read], [], [])
            if not self._ended.is_set():
                self._unmount()
        finally:
            self._files.close()
            self._link.close()
        if self._failure is not None:
            raise self._failure
        log.info("mount_ended", mountpoint=self._plan.mountpoint)

    def _serve(self) -> None:
        try:
            self._files.session.run()
        except BaseException as error:
            self._failure = error
            self._files.session.ready.set()
        finally:
            self._ended.set()
            self.stop()

    def _unmount(self) -> None:
        """Takes the folder away and waits, for a bounded time, until nobody uses it."""
        row = mount_at(self._path)
        if row is None or row.device != self._identity:
            return  # somebody was quicker
        try:
            unmount(self._path)
        except OSError as error:
            log.warning("unmounted_while_busy", mountpoint=self._plan.mountpoint, reason=error.strerror)
            if error.errno == errno.EBUSY:
                unmount(self._path, lazy=True)
        if not self._ended.wait(FUSE_STOP_WAIT_S):
            log.warning("files_still_open", mountpoint=self._plan.mountpoint, waited_s=FUSE_STOP_WAIT_S)


def _as_patient_as_the_mount(settings: Settings) -> Settings:
    """Whatever is called in the name of a program waits as long for who is away as `fuse.server_timeout` says."""
    patient = msgspec.structs.replace(settings.client, retry_total=settings.fuse.server_timeout)
    return msgspec.structs.replace(settings, client=patient)
