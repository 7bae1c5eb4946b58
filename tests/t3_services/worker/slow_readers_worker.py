"""A worker in a process of its own, so that its memory can be measured: run by `test_memory.py`."""

import sys
import threading
from pathlib import Path

from isotach.conf.load import load_settings
from isotach.worker.server import Worker

from .conftest import SECRET


def main(folder: str, master: str, buffer_memory: str) -> None:
    settings = load_settings(
        {
            "dir": folder,
            "worker.mem_dir": f"{folder}/mem",
            "worker.mem_size": "32MiB",
            "worker.port": "0",
            "worker.web_port": "-1",
            "worker.buffer_memory": buffer_memory,
            "log.level": "error",
        },
        env={},
        file=None,
    )
    worker = Worker(settings, master, SECRET)
    worker.start()
    (Path(folder) / "address").write_text(worker.local_socket)
    print("serving", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
