"""Starts role processes, waits until they serve, starts them again when they die, and stops them with their owner.

Owns: child processes of a standalone cluster and their log files. Never: knows what a role does, or talks to it over
the wire (the ready report is all it hears).
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from isotach.base.errors import IsotachError
from isotach.obs.log import get_logger
from isotach.run.lifecycle import Ready, parse_report

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
#: A role that dies this often within the window stays down: starting it again does not help.
RESTARTS_MAX: Final = 8
RESTART_WINDOW_S: Final = 60.0
RESTART_DELAY_S: Final = 0.1
LOG_TAIL_BYTES: Final = 2000

#: Builds the command line for a start; gets the last ready report so that a restart takes the same ports.
CommandBuilder = Callable[[Ready | None], list[str]]

log = get_logger("run.supervisor")


class SupervisedProcess:
    """One role process that is kept alive until `stop`."""

    def __init__(self, name: str, command: CommandBuilder, log_file: Path) -> None:
        self.name = name
        self._command = command
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._life_fd = -1
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._starts: list[float] = []
        self.ready: Ready | None = None
        self.failed: str | None = None

    @property
    def pid(self) -> int:
        """The process id of the present incarnation; -1 when it is down."""
        process = self._process
        return -1 if process is None or process.poll() is not None else process.pid

    def start(self) -> Ready:
        """Starts the process, waits until it serves, and keeps watch from then on.

        Raises the child's own error when it cannot start, IsotachError with the end of its log when it just dies.
        """
        ready = self._launch()
        self._watcher = threading.Thread(target=self._watch, name=f"supervise-{self.name}", daemon=True)
        self._watcher.start()
        return ready

    def stop(self) -> None:
        """Asks the process to end (SIGTERM), waits, and kills it after STOP_TIMEOUT_S. Safe to call twice."""
        self._stopping.set()
        with self._lock:
            process = self._process
            if process is not None:
                _end(process)
            self._close_life()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join(STOP_TIMEOUT_S)

    def _launch(self) -> Ready:
        ready_read, ready_write = os.pipe()
        life_read, life_write = os.pipe()
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        command = [*self._command(self.ready), "--ready-fd", str(ready_write), "--life-fd", str(life_read)]
        with self._log_file.open("ab") as log_stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_stream,
                stderr=log_stream,
                pass_fds=(ready_write, life_read),
                start_new_session=True,  # Ctrl-C in the owner's terminal must not hit the roles: the owner stops them
            )
        os.close(ready_write)
        os.close(life_read)
        self._close_life()
        self._process, self._life_fd = process, life_write
        try:
            self.ready = parse_report(self._read_report(ready_read, process))
        except BaseException:
            _end(process)
            self._close_life()
            raise
        finally:
            os.close(ready_read)
        return self.ready

    def _read_report(self, ready_read: int, process: subprocess.Popen[bytes]) -> bytes:
        deadline = time.monotonic() + START_TIMEOUT_S
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([ready_read], [], [], left)[0]:
                raise IsotachError(
                    f"the {self.name} did not start within {START_TIMEOUT_S:.0f} s: see {self._log_file}"
                )
            chunk = os.read(ready_read, 65536)
            if not chunk:
                code = process.wait(STOP_TIMEOUT_S)
                raise IsotachError(f"the {self.name} ended with code {code} while starting: {self._log_tail()}")
            line += chunk
        return line

    def _log_tail(self) -> str:
        try:
            return self._log_file.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "it logged nothing"
        except OSError as error:
            return f"its log cannot be read: {error}"

    def _watch(self) -> None:
        while not self._stopping.is_set():
            process = self._process
            if process is None:
                return
            code = process.wait()
            if self._stopping.is_set():
                return
            log.warning("role_died", role=self.name, code=code)
            if not self._restart():
                return

    def _restart(self) -> bool:
        now = time.monotonic()
        self._starts = [start for start in self._starts if now - start < RESTART_WINDOW_S] + [now]
        if len(self._starts) > RESTARTS_MAX:
            self.failed = f"the {self.name} died {len(self._starts)} times within {RESTART_WINDOW_S:.0f} s"
            log.error("role_given_up", role=self.name, restarts=len(self._starts), log_file=str(self._log_file))
            return False
        if self._stopping.wait(RESTART_DELAY_S * len(self._starts)):
            return False
        with self._lock:
            if self._stopping.is_set():
                return False
            try:
                self._launch()
            except Exception as error:
                # The next turn of the watch sees the dead process and tries again, up to the bound.
                log.error("role_restart_failed", role=self.name, error=str(error))
        return True

    def _close_life(self) -> None:
        if self._life_fd >= 0:
            os.close(self._life_fd)
            self._life_fd = -1


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this package with this very interpreter."""
    return [sys.executable, "-m", module, *arguments]
