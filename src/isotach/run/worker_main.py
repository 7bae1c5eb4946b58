"""The main of the worker process: `python -m isotach.run.worker_main`.

Owns: its command line, signals, the ready report. Never: knows what a worker does.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence

from isotach.conf.load import load_settings
from isotach.conf.settings import Settings
from isotach.master.secret import load_secret
from isotach.obs.log import configure_logging, get_logger
from isotach.run.lifecycle import Ready, report_failure, report_ready, watch_parent
from isotach.worker.server import Worker, master_address_of

log = get_logger("run.worker")


def main(settings: Settings, master: str | None = None, ready_fd: int | None = None, life_fd: int | None = None) -> int:
    """Runs a worker until SIGTERM or SIGINT; returns the exit code. Why it cannot start is told on `ready_fd`, and
    raised when there is none."""
    configure_logging(settings.log.level, settings.log.format, settings.log.file, process="worker")
    watch_parent(life_fd)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        _serve(settings, master, ready_fd, stop)
    except Exception as error:
        log.error("worker_cannot_run", error=str(error), kind=type(error).__name__)
        if ready_fd is None:
            raise
        report_failure(ready_fd, error)
        return 1
    return 0


def _serve(settings: Settings, master: str | None, ready_fd: int | None, stop: threading.Event) -> None:
    secret = load_secret(settings.dir, settings.security.cluster_secret_file)
    worker = Worker(settings, master_address_of(settings, master), secret)
    try:
        worker.start()
        report_ready(
            ready_fd,
            Ready(pid=os.getpid(), address=worker.address, ports={"rpc": worker.port}, web_port=worker.web_port),
        )
        stop.wait()
    finally:
        worker.stop()
    log.info("worker_stopped")


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="isotach-worker", description="The worker process of Isotach.")
    parser.add_argument("--overrides", type=json.loads, default={}, help="configuration keys as one JSON object")
    parser.add_argument("--master", help="address of the master (default: the key `address`, or `<dir>/address`)")
    parser.add_argument("--ready-fd", type=int, help="descriptor on which to say, once, that it serves")
    parser.add_argument("--life-fd", type=int, help="descriptor whose end of file tells that the parent is gone")
    given = parser.parse_args(arguments)
    return main(load_settings(given.overrides), given.master, given.ready_fd, given.life_fd)


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
