"""Keeps a mount: holds its device, starts the process that serves it, and another one in its place when that dies.

Owns: the mount, the descriptors of the device, the serving process, the mount's note. Never: reads a request.

The device stays open here, so a crash of the serving process does not end the mount: requests wait, and those under way
are sent again (FUSE_NOTIFY_RESEND, Linux 6.9). What was read from a clone of the device would be lost with it: the
serving process has this very descriptor. Where the kernel cannot send again, the old mount is taken away lazily and a
new one made.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import TextIO

import msgspec

from isotach.base import limits
from isotach.base.errors import IsotachError, retry_helps
from isotach.conf.settings import Settings
from isotach.fuse.kernel.mounting import Mounted, mount, unmount
from isotach.fuse.kernel.stale import is_mounted
from isotach.fuse.plan import MountPlan
from isotach.fuse.state import MountState, name_of, remove_state, state_file, write_state
from isotach.obs.log import get_logger
from isotach.run.lifecycle import Ready, parse_report, report_ready
from isotach.run.supervisor import module_command

log = get_logger("run.fuse_supervisor")


class Serving(msgspec.Struct):
    """A serving process. `life` closes with this process, which tells it to unmount and end."""

    process: subprocess.Popen[bytes]
    life: int
    ready: Ready | None = None


class Handed(msgspec.Struct, frozen=True):
    """What a serving process leaves to the next, as `Ready.note`. `resend`: whether the kernel sends again."""

    negotiated: str = ""
    resend: bool = False
    passthrough: str = ""


class MountSupervisor:
    """One mount, from mount(2) to its end. `run` blocks; `stop` may be called by a signal handler.

    `keeps_mount` False: a dead serving process costs the mount, which is made anew, as on kernels before Linux 6.9."""

    def __init__(
        self, plan: MountPlan, settings: Settings, *, log_stream: TextIO | None = None, keeps_mount: bool = True
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._log_stream = log_stream
        self._keeps_mount = keeps_mount
        self._path = Path(plan.mountpoint)
        self._mounted: Mounted | None = None
        self._handed = Handed()
        self._stop_read, self._stop_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._deaths: list[float] = []
        self._since_s = int(time.time())
        self.told = False  # whether the ready report is out

    @property
    def wake_fd(self) -> int:
        """Whatever is written to this descriptor asks for the end: for `signal.set_wakeup_fd`."""
        return self._stop_write

    def stop(self) -> None:
        """Asks for a clean end. Safe in a signal handler."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._stop_write, b"x")

    def run(self, ready_fd: int | None = None) -> int:
        """Mounts and serves until the mount ends; the exit code. Tells on `ready_fd` once it is served. Raises what
        keeps the mount from being made."""
        try:
            self._mount()
            serving = self._start()
            self.told = True
            report_ready(ready_fd, Ready(pid=os.getpid(), address=self._plan.mountpoint))
            return self._keep(serving)
        finally:
            self._end()

    # --- the mount ---

    def _mount(self) -> None:
        self._mounted = mount(self._path, f"isotach:{self._plan.source}", self._plan.options)
        self._handed = Handed()

    def _is_mounted(self) -> bool:
        return self._mounted is not None and is_mounted(self._path, self._mounted.identity)

    def _abandon(self) -> None:
        """Takes the mount away, whoever uses it; its programs get ENOTCONN once the descriptors close."""
        if self._is_mounted():
            try:
                unmount(self._path, lazy=True)
            except OSError as error:
                log.error("unmount_failed", mountpoint=self._plan.mountpoint, error=str(error))
        if self._mounted is not None:
            self._mounted.close()
        self._mounted = None

    def _end(self) -> None:
        self._abandon()
        remove_state(self._settings.dir, self._path, os.getpid())

    # --- the serving process ---

    def _start(self) -> Serving:
        """A serving process that has said that it serves. Raises its own error when it cannot."""
        serving, report = self._launch()
        try:
            line = self._read_report(report, serving)
            serving.ready = parse_report(line)
            self._handed = msgspec.json.decode(serving.ready.note, type=Handed)
        except BaseException:
            self._kill(serving)
            raise
        finally:
            os.close(report)
        self._write_state(serving)
        return serving

    def _launch(self) -> tuple[Serving, int]:
        report_read, report_write = os.pipe()
        life_read, life_write = os.pipe()
        if self._mounted is None:
            raise IsotachError(f"{self._plan.mountpoint} is not mounted: mount it again")
        device = self._mounted.device
        arguments = ["--plan", msgspec.json.encode(self._plan).decode(), "--serve", str(device)]
        arguments += ["--negotiated", self._handed.negotiated] if self._handed.negotiated else []
        arguments += ["--ready-fd", str(report_write), "--life-fd", str(life_read)]
        process = subprocess.Popen(
            module_command("isotach.run.fuse_main", *arguments),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=self._log_stream,
            stderr=self._log_stream,
            pass_fds=(device, report_write, life_read),
            start_new_session=True,  # Ctrl-C is for this process, which ends the other in order
        )
        os.close(report_write)
        os.close(life_read)
        return Serving(process, life_write), report_read

    def _read_report(self, report: int, serving: Serving) -> bytes:
        deadline = time.monotonic() + limits.FUSE_START_S
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([report], [], [], left)[0]:
                raise IsotachError(f"the mount was not served within {limits.FUSE_START_S:.0f} s: {self._where_log()}")
            chunk = os.read(report, 65536)
            if not chunk:
                code = serving.process.wait(limits.FUSE_STOP_S)
                raise IsotachError(f"the serving process ended with code {code} while starting: {self._where_log()}")
            line += chunk
        return line

    def _where_log(self) -> str:
        if self._log_stream is None or not isinstance(self._log_stream.name, str):
            return "see above"
        return f"see {self._log_stream.name}"

    def _kill(self, serving: Serving) -> None:
        if serving.process.poll() is None:
            serving.process.kill()
        serving.process.wait()
        self._close_life(serving)

    def _close_life(self, serving: Serving) -> None:
        if serving.life >= 0:
            os.close(serving.life)
            serving.life = -1

    def _write_state(self, serving: Serving) -> None:
        state = MountState(
            pid=os.getpid(),
            server_pid=serving.process.pid,
            mountpoint=self._plan.mountpoint,
            source=self._plan.source,
            address="" if serving.ready is None else serving.ready.address,
            options=self._plan.options.words,
            identity="" if self._mounted is None else self._mounted.identity,
            since_s=self._since_s,
            restarts=self._plan.restarts,
            passthrough=self._handed.passthrough,
        )
        try:
            write_state(self._settings.dir, state)
        except OSError as error:  # only `isotach fuse list` needs it
            log.warning("note_not_written", file=str(state_file(self._settings.dir, self._path)), error=str(error))

    # --- its life ---

    def _keep(self, serving: Serving | None) -> int:
        while serving is not None:
            if self._wait(serving):
                return self._stop_serving(serving)
            code = serving.process.wait()
            self._close_life(serving)
            if code == 0 or not self._is_mounted():
                return 0  # somebody unmounted it
            log.warning("serving_process_died", mountpoint=self._plan.mountpoint, code=code)
            serving = self._start_again()
        return 1

    def _wait(self, serving: Serving) -> bool:
        """Until the process ends (False) or this one is asked to stop (True)."""
        process = os.pidfd_open(serving.process.pid)
        try:
            readable = select.select([process, self._stop_read], [], [])[0]
        finally:
            os.close(process)
        return self._stop_read in readable

    def _stop_serving(self, serving: Serving) -> int:
        """It unmounts, publishes what is open, and ends."""
        if serving.process.poll() is None:
            serving.process.send_signal(signal.SIGTERM)
        try:
            code = serving.process.wait(limits.FUSE_STOP_WAIT_S + limits.FUSE_STOP_S)
        except subprocess.TimeoutExpired:
            log.error("serving_process_killed", mountpoint=self._plan.mountpoint)
            code = 1
        self._kill(serving)
        return min(1, abs(code))

    def _start_again(self) -> Serving | None:
        """Another serving process for the same mount, or for a new one; None: it was given up, or has ended."""
        now = time.monotonic()
        self._deaths = [death for death in self._deaths if now - death < limits.FUSE_RESTART_WINDOW_S] + [now]
        delay_s = limits.FUSE_RESTART_DELAY_S * len(self._deaths)
        while len(self._deaths) <= limits.FUSE_RESTARTS_MAX:
            if select.select([self._stop_read], [], [], delay_s)[0] or not self._is_mounted():
                return None
            self._plan = msgspec.structs.replace(self._plan, restarts=self._plan.restarts + 1)
            try:
                if not (self._handed.negotiated and self._handed.resend and self._keeps_mount):
                    self._abandon()
                    self._mount()
                return self._start()
            except Exception as error:
                log.error("restart_failed", mountpoint=self._plan.mountpoint, error=str(error))
                delay_s = min(2 * delay_s, 1.0)
                # A master that is away for a while is no reason to count: the time is bounded all the same.
                if not retry_helps(error) or time.monotonic() - now > limits.FUSE_RESTART_WINDOW_S:
                    self._deaths.append(time.monotonic())
        log.error("mount_given_up", mountpoint=self._plan.mountpoint, deaths=len(self._deaths))
        return None


def log_file(settings: Settings, mountpoint: Path) -> Path:
    """Where a mount in the background writes its log."""
    return settings.dir / "logs" / f"fuse-{name_of(mountpoint)}.log"
