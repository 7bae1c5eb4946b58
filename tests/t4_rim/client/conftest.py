"""A fake cluster for the client's tests: one threaded server that answers as master, reader and worker from a dict.

Owns: faults on demand (partial containers, full caches, lost connections, stale versions). Never: stands in for the
real cluster where the two must agree; those tests start one (`cluster`).
"""

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import isotach
from isotach.base.errors import StaleVersionError, UnavailableError, os_error
from isotach.base.types import BlockHolder, CacheState, Flag, Inode, Kind
from isotach.net.address import host_key
from isotach.net.thread_call import Call
from isotach.net.thread_server import ThreadRpcServer
from isotach.wire import messages as m

BLOCK = 1 << 20


class FakeFile:
    """A completed version."""

    def __init__(self, version: int, data: bytes) -> None:
        self.version = version
        self.data = data


class FakeCluster:
    """Master, one reader and workers in one server per worker; every file in memory."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self.files: dict[bytes, FakeFile] = {}
        self.directories: dict[bytes, list[bytes]] = {b"/": []}
        self.creates: dict[bytes, m.CreateRequest] = {}
        self.calls: list[str] = []
        self.page_entries = 3
        self.present_bytes: int | None = None  # None: every container is complete
        self.cache_is_full = False
        self.read_failures = 0  # how many READs break their connection in mid-payload
        self.open_failures: list[Exception] = []
        self.list_failures = 0  # how many later pages break their connection
        self.write_failures = 0  # how many PUTs or WRITEs close the connection
        self.spread = False
        self.workers_live = True
        self.worker_comes_back = False  # after it was missed once
        self.opened_at: list[str] = []
        self.write_offsets: dict[str, list[tuple[int, int, bool]]] = {}
        self._lock = threading.Lock()
        self._last_version = 100
        self._servers: list[ThreadRpcServer] = []
        self._rows: list[m.WorkerRow] = []
        for index in range(workers):
            self._start(folder, f"w{index}")
        self.address = str(self._servers[0].addresses[0])
        self.tcp_address = str(self._servers[0].addresses[1])

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def put(self, path: str, data: bytes) -> FakeFile:
        self._last_version += 1
        file = self.files[os.fsencode(path)] = FakeFile(self._last_version, data)
        return file

    def _start(self, folder: Path, worker_id: str) -> None:
        names = [name for name in dir(self) if name.startswith("on_")]
        handlers: dict[m.AnyMethod, Callable[[Call], None]] = {
            getattr(m, name[3:].upper()): getattr(self, name) for name in names
        }
        local = folder / f"{worker_id}.sock"
        server = ThreadRpcServer(
            handlers, lambda: self._welcome(server), on_connection=lambda _: {"worker": worker_id}, name=worker_id
        )
        server.listen(f"isotach+unix://{local}")
        tcp = server.listen("isotach://127.0.0.1:0")
        self._servers.append(server)
        self._rows.append(m.WorkerRow(worker_id, "localhost", str(tcp), str(local), host_key(), True, 0, []))

    def _welcome(self, server: ThreadRpcServer) -> m.Welcome:
        unix, tcp = server.addresses[0], server.addresses[1]
        return m.Welcome(1, "master", "fake", host_key(), [], "", unix.path, str(tcp))

    # --- master ---

    def on_stat(self, call: Call) -> None:
        self.calls.append("stat")
        path = call.request.path
        if path in self.directories:
            call.reply(m.StatReply(_inode(2, 0, Kind.DIRECTORY)))
            return
        file = self.files.get(path)
        if file is None:
            raise os_error(2, "no such file or directory", path)
        holders = []
        if self.spread:
            blocks = -(-len(file.data) // BLOCK)
            for index, row in enumerate(self._rows):
                bits = sum(1 << block for block in range(blocks) if block % len(self._rows) == index)
                holders.append(BlockHolder(row.worker_id, 0, 1, bits.to_bytes(-(-blocks // 8), "little")))
        cache = CacheState(len(file.data), len(file.data), holders)
        inode = _inode(3, len(file.data), Kind.FILE, file.version)
        call.reply(m.StatReply(inode, cache, f"mem://x{path.decode()}", path + b"@%d" % file.version))

    def on_list(self, call: Call) -> None:
        if self.list_failures and call.request.start_after:
            self.list_failures -= 1
            call.connection.frame_socket.sock.shutdown(socket.SHUT_RDWR)
            raise UnavailableError("a fault of the test")
        names = [name for name in sorted(self.directories[call.request.path]) if name > call.request.start_after]
        page = names[: self.page_entries]
        self.calls.append("list")
        base = call.request.path.rstrip(b"/")
        entries = [
            m.ListEntry(name, _inode(5, 0, Kind.DIRECTORY if base + b"/" + name in self.directories else Kind.FILE))
            for name in page
        ]
        call.reply(m.ListReply(len(names) > len(page), "mem://x"), msgspec.msgpack.encode(entries))

    def on_workers(self, call: Call) -> None:
        call.reply(m.WorkersReply(self._rows if self.workers_live else []))
        self.workers_live = self.workers_live or self.worker_comes_back

    def on_create(self, call: Call) -> None:
        self.calls.append("create")
        request = call.request
        if request.path in self.files and not request.overwrite:
            raise os_error(17, "exists", request.path)
        self._last_version += 1
        grant = request.path + b"@%d" % self._last_version
        self.creates[grant] = request
        rows = self._rows if self.workers_live else []
        self.workers_live = self.workers_live or self.worker_comes_back
        call.reply(m.CreateReply(self._last_version, request.write_type, BLOCK, rows, grant, self.spread))

    def on_complete(self, call: Call) -> None:
        self.calls.append("complete")
        self._complete(call.request.grant, b"")
        call.reply(m.CompleteReply(_inode(3, 0, Kind.FILE)))

    def on_abort(self, call: Call) -> None:
        self.calls.append("abort")
        self.creates.pop(call.request.grant, None)
        call.reply(m.Empty())

    def _complete(self, grant: bytes, data: bytes) -> None:
        path, _, version = grant.rpartition(b"@")
        self.creates.pop(grant, None)
        self.files[path] = FakeFile(int(version), data)

    # --- worker ---

    def on_open(self, call: Call) -> None:
        self.calls.append("open")
        self.opened_at.append(call.connection.state["worker"])
        if self.open_failures:
            raise self.open_failures.pop(0)
        path, _, version = call.request.grant.rpartition(b"@")
        file = self.files[path]
        if file.version != int(version):
            raise StaleVersionError(116, "that version is gone")
        state = call.connection.state
        state[1] = file
        complete = self.present_bytes is None
        if not (call.request.want_fd and call.peer.local):
            call.reply(m.OpenReply(1, False, complete))
            return
        with tempfile.TemporaryFile() as container:
            container.write(file.data)
            container.flush()
            fd = os.open(f"/proc/self/fd/{container.fileno()}", os.O_RDONLY)
            try:
                call.reply_with_fd(m.OpenReply(0 if complete else 1, True, complete, self.present_bytes or 0), fd)
            finally:
                os.close(fd)

    def on_ensure(self, call: Call) -> None:
        self.calls.append("ensure")
        file, request = call.connection.state[1], call.request
        if self.cache_is_full:
            call.reply(m.EnsureReply(request.offset))
        else:
            call.reply(m.EnsureReply(min(len(file.data), request.offset + request.length)))

    def on_read(self, call: Call) -> None:
        self.calls.append("read")
        data = call.connection.state[1].data[call.request.offset : call.request.offset + call.request.length]
        if self.read_failures:
            self.read_failures -= 1
            stream = call.reply_stream(m.ReadReply(len(data)), len(data))
            stream.send(data[: len(data) // 2])
            raise UnavailableError("a fault of the test")
        call.reply(m.ReadReply(len(data)), data)

    def on_load(self, call: Call) -> None:
        self.calls.append("load")
        self.present_bytes = None
        call.reply(m.LoadReply(1))

    def on_close_handle(self, call: Call) -> None:
        call.reply(m.Empty())

    def on_put(self, call: Call) -> None:
        self.calls.append("put")
        self._fail_write(call)
        self._complete(call.request.grant, bytes(call.receive_payload()))
        call.reply(m.CommitReply())

    def on_write_open(self, call: Call) -> None:
        self.calls.append("write_open")
        call.connection.state["grant"] = call.request.grant
        call.connection.state["primary"] = call.request.primary
        call.reply(m.WriteOpenReply(1))

    def on_write(self, call: Call) -> None:
        self._fail_write(call)
        state = call.connection.state
        data = bytes(call.receive_payload())
        self.write_offsets.setdefault(state["worker"], []).append((call.request.offset, len(data), call.request.keep))
        if call.request.keep:
            with self._lock:
                parts = self.__dict__.setdefault("parts", {}).setdefault(state["grant"], {})
                parts[call.request.offset] = data
        call.reply(m.Empty())

    def on_commit(self, call: Call) -> None:
        self.calls.append("commit")
        state = call.connection.state
        if state["primary"]:
            parts = self.__dict__["parts"].pop(state["grant"])
            data = b"".join(parts[offset] for offset in sorted(parts))
            assert len(data) == call.request.length
            self._complete(state["grant"], data)
        call.reply(m.CommitReply())

    def _fail_write(self, call: Call) -> None:
        if self.write_failures:
            self.write_failures -= 1
            call.connection.frame_socket.sock.shutdown(socket.SHUT_RDWR)
            raise UnavailableError("the worker dies")


def _inode(inode_id: int, length: int, kind: Kind, version: int = 0) -> Inode:
    return Inode(inode_id, kind, 0o644, "root", "root", length, 1, 1, 1, version, BLOCK, Flag.PERSISTED, 1)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeCluster]:
    """One worker."""
    cluster = FakeCluster(tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture
def fake_pair(tmp_path: Path) -> Iterator[FakeCluster]:
    """Two workers."""
    cluster = FakeCluster(tmp_path, workers=2)
    yield cluster
    cluster.close()


@pytest.fixture
def fs(fake: FakeCluster) -> Iterator[isotach.FileSystem]:
    """Over the Unix socket: descriptors pass."""
    with isotach.connect(fake.address, retry_total="2s") as found:
        yield found


@pytest.fixture
def hasty_fs(fake: FakeCluster) -> Iterator[isotach.FileSystem]:
    """One that gives up at once."""
    with isotach.connect(fake.address, retry_total="50ms") as found:
        yield found


@pytest.fixture
def remote_fs(fake: FakeCluster) -> Iterator[isotach.FileSystem]:
    """Over TCP: bytes come through the socket."""
    with isotach.connect(fake.tcp_address, short_circuit=False, retry_total="2s") as found:
        yield found
