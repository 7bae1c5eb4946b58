"""The test server itself: it must never outlive the process that started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

_STARTER = """
import sys
from isotach.testing.seaweed import SeaweedServer
server = SeaweedServer.start(sys.argv[1])
print(server.pid, flush=True)
sys.stdin.read()
"""


def test_server_dies_with_its_starter(tmp_path: Path, eventually: Callable[..., object]) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(tmp_path / "data")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    assert starter.stdin is not None
    try:
        server_pid = int(starter.stdout.readline())
        os.kill(starter.pid, signal.SIGKILL)
        starter.wait()
        eventually(lambda: not _is_running(server_pid), message="the server is still running")
    finally:
        starter.kill()
        starter.wait()
        starter.stdout.close()
        starter.stdin.close()


def _is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
