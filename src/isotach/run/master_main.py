"""The main of the master process: `python -m isotach.run.master_main`.

Owns: its command line, signals, the ready report. Never: knows what a master does.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence

from isotach import __version__
from isotach.conf.load import load_settings
from isotach.conf.resolve import to_overrides
from isotach.conf.settings import Settings
from isotach.master.server import Master
from isotach.obs.log import configure_logging, get_logger
from isotach.run.lifecycle import Ready, report_failure, report_ready, watch_parent
from isotach.run.loop import run_loop

log = get_logger("run.master")


def main(settings: Settings, ready_fd: int | None = None, life_fd: int | None = None) -> int:
    """Runs a master until SIGTERM or SIGINT; returns the exit code. Why it cannot start is told on `ready_fd`, and
    raised when there is none."""
    configure_logging(settings.log.level, settings.log.format, settings.log.file, process="master")
    watch_parent(life_fd)
    try:
        run_loop(_serve(settings, ready_fd))
    except Exception as error:
        log.error("master_cannot_run", error=str(error), kind=type(error).__name__)
        if ready_fd is None:
            raise
        report_failure(ready_fd, error)
        return 1
    return 0


async def _serve(settings: Settings, ready_fd: int | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    master = Master(settings, __version__, lambda index: _reader_command(settings, index))
    await master.start()
    try:
        report_ready(
            ready_fd,
            Ready(
                pid=os.getpid(),
                address=master.address,
                ports={"rpc": master.port},
                web_port=master.web_port,
                child_pids=master.reader_pids,
            ),
        )
        await stop.wait()
    finally:
        await master.stop()
    log.info("master_stopped")


def _reader_command(settings: Settings, index: int) -> list[str]:
    overrides = json.dumps(to_overrides(settings))
    return [sys.executable, "-m", "isotach.run.reader_main", "--index", str(index), "--overrides", overrides]


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="isotach-master", description="The master process of Isotach.")
    parser.add_argument("--overrides", type=json.loads, default={}, help="configuration keys as one JSON object")
    parser.add_argument("--ready-fd", type=int, help="descriptor on which to say, once, that it serves")
    parser.add_argument("--life-fd", type=int, help="descriptor whose end of file tells that the parent is gone")
    given = parser.parse_args(arguments)
    return main(load_settings(given.overrides), given.ready_fd, given.life_fd)


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
