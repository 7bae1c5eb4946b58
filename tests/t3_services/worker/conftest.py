"""A real worker in this process, over a local folder, with a fake master and a connection to it."""

import itertools
import os
import time
from pathlib import Path

import pytest

from isotach.base.limits import MIB
from isotach.base.types import Mount
from isotach.conf.load import load_settings
from isotach.net.blocking_client import BlockingConnection
from isotach.wire import messages as wire
from isotach.wire.grants import seal
from isotach.worker.server import Worker

from .fake_master import FakeMaster

SECRET = b"s" * 32
MOUNT_ID = 5
_versions = itertools.count(100)


class World:
    """Everything of one test: folders, master, worker, and short ways to what tests do all the time."""

    def __init__(self, folder: Path, **overrides: str) -> None:
        self.folder = folder
        self.ufs = folder / "ufs"
        self.ufs.mkdir()
        self.overrides = overrides
        mount = Mount(MOUNT_ID, 1, b"/", f"file://{self.ufs}", {})
        self.master = FakeMaster(folder / "m.sock", SECRET, [mount]).start()
        self.worker: Worker | None = None
        self.connections: list[BlockingConnection] = []
        self.start_worker()

    def start_worker(self) -> Worker:
        settings = load_settings(
            {
                "dir": str(self.folder),
                "worker.mem_dir": str(self.folder / "mem"),
                "worker.mem_size": "64MiB",
                "worker.port": "0",
                "worker.web_port": "-1",
                "worker.heartbeat_interval": "100ms",
                **self.overrides,
            },
            env={},
            file=None,
        )
        self.worker = Worker(settings, self.master.address, SECRET)
        self.worker.start()
        return self.worker

    def stop_worker(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def connect(self, *, tcp: bool = False) -> BlockingConnection:
        assert self.worker is not None
        where = self.worker.address if tcp else f"isotach+unix://{self.worker.local_socket}"
        connection = BlockingConnection.open(where)
        self.connections.append(connection)
        return connection

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self.stop_worker()
        self.master.stop()

    # --- grants ---

    def put_ufs(self, name: str, data: bytes) -> bytes:
        """A file in the under storage, and the capability to read it."""
        (self.ufs / name).write_bytes(data)
        return self.read_grant(name, len(data))

    def read_grant(self, name: str | None, length: int, version: int | None = None, **fields) -> bytes:
        from isotach.ufs.registry import open_under_storage

        fingerprint = None
        if name is not None and (self.ufs / name).exists():
            storage = open_under_storage(f"file://{self.ufs}", {})
            fingerprint = storage.stat(name).fingerprint
            storage.close()
        values = {
            "version": next(_versions) if version is None else version,
            "file_id": 1,
            "length": length,
            "block_size": 4 * MIB,
            "mount_id": MOUNT_ID,
            "ufs_path": os.fsencode(name) if name is not None else None,
            "fingerprint": fingerprint,
            "pinned": False,
            "expires_s": int(time.time()) + 60,
        }
        return seal(SECRET, wire.ReadGrant(**{**values, **fields}))

    def write_grant(self, name: str, write_type: str, **fields) -> tuple[int, bytes]:
        version = next(_versions)
        values = {
            "version": version,
            "file_id": version + 1,
            "path": b"/" + os.fsencode(name),
            "user": "u",
            "groups": [],
            "superuser": False,
            "write_type": write_type,
            "mode": 0o644,
            "block_size": 4 * MIB,
            "overwrite": True,
            "ttl_ms": -1,
            "ttl_action": "DELETE",
            "pinned": False,
            "mount_id": MOUNT_ID,
            "ufs_path": os.fsencode(name) if name is not None else None,
            "expires_s": int(time.time()) + 60,
        }
        return version, seal(SECRET, wire.WriteGrant(**{**values, **fields}))


@pytest.fixture
def make_world(tmp_path, no_leaks):
    worlds = []

    def build(**overrides: str) -> World:
        worlds.append(World(tmp_path, **{key.replace("__", "."): value for key, value in overrides.items()}))
        return worlds[-1]

    yield build
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world) -> World:
    return make_world()
