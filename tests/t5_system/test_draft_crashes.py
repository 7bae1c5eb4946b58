"""kill -9 of the worker at every durable step of a mount's draft: what was synced comes out whole, one way or another.

Each test writes a file, then gives it new content by a draft, as a mount does, while the worker is set to die at one
point. Either the mount lives and goes on with the next process, in the same file; or it is gone, too.
"""

import os
from pathlib import Path

import pytest

import isotach
from isotach.base.paths import id_path
from isotach.net.blocking_client import BlockingConnection
from isotach.wire import messages as wire

OLD, NEW = b"o" * 300_000, b"n" * 2_500_000
#: The first passing of these is the old content's.
PASSED_BEFORE = ("worker.before_seal", "worker.after_seal", "worker.after_complete")


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Arms one crash point for the processes started next; gives the file that tells it was reached."""

    def arm(point: str) -> Path:
        marker = tmp_path / "reached"
        nth = ":2" if point in PASSED_BEFORE else ""
        monkeypatch.setenv("ISOTACH_TEST_FAILPOINT", f"{point}{nth}@{marker}")
        return marker

    return arm


class Mount:
    """A mount that writes one file."""

    def __init__(self, fs: isotach.FileSystem, cluster: isotach.Cluster, path: str) -> None:
        self.fs, self.path = fs, path
        self.master = BlockingConnection.open(cluster.address)
        self.key = os.urandom(16)
        self.worker = self.session()
        self.grant = self.granted()
        request = wire.DraftOpenRequest(self.key, self.grant, len(NEW))
        reply, _, self.descriptor = self.worker.call_with_fd(wire.DRAFT_OPEN, request)
        self.draft = reply.draft

    def session(self) -> BlockingConnection:
        connection = BlockingConnection.open(f"isotach+unix://{self.fs.workers()[0].local_socket}")
        connection.call(wire.DRAFT_SESSION, wire.DraftSessionRequest(self.key))
        return connection

    def granted(self) -> bytes:
        request = wire.CreateRequest(id_path(self.fs.stat(self.path).id), "ASYNC_THROUGH", by_id=True)
        return self.master.call(wire.CREATE, request)[0].grant

    def sync(self) -> None:
        self.worker.call(wire.DRAFT_SYNC, wire.DraftSyncRequest(self.key, self.draft, self.grant, len(NEW)))

    def publish(self) -> None:
        request = wire.DraftPublishRequest(self.key, self.draft, self.grant, len(NEW))
        self.worker.call(wire.DRAFT_PUBLISH, request)

    def sync_and_publish(self) -> None:
        """The worker dies in one of them."""
        self.sync()
        self.publish()

    def die(self) -> None:
        self.worker.close()
        self.master.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def files_in_cache(cluster: isotach.Cluster) -> list[str]:
    return sorted(os.listdir(cluster.settings.worker.mem_dir / "containers"))


@pytest.mark.fault(
    "kill -9 of the worker at each step of a mount's draft", "the mount goes on in the same file, and publishes it"
)
@pytest.mark.parametrize(
    "point",
    ["worker.before_draft_note", "worker.before_seal", "worker.after_seal", "worker.after_complete"],
)
def test_a_mount_goes_on_with_the_next_worker(start, armed, eventually, point):
    marker = armed(point)
    cluster = start()
    with isotach.connect(cluster.address) as fs:
        fs.write("/f", OLD, write_type="MUST_CACHE")
        mount = Mount(fs, cluster, "/f")
        try:
            os.pwrite(mount.descriptor, NEW, 0)
            with pytest.raises(isotach.IsotachError):
                mount.sync_and_publish()
            assert marker.exists(), f"nothing passed {point}"
            mount.worker = eventually(lambda: again(mount), timeout=20)
            mount.publish()
        finally:
            mount.die()
        assert fs.read("/f") == NEW
        eventually(lambda: len(files_in_cache(cluster)) == 1, message="a container or draft leaks")


def again(mount: Mount) -> BlockingConnection | None:
    try:
        return mount.session()
    except (isotach.IsotachError, OSError):
        return None


@pytest.mark.fault("kill -9 of worker and mount after fsync", "what was synced is published when the worker is back")
@pytest.mark.parametrize("point", ["worker.after_draft_note", "worker.after_seal"])
def test_what_was_synced_is_published_when_all_died(start, armed, eventually, point):
    marker = armed(point)
    cluster = start()
    with isotach.connect(cluster.address) as fs:
        fs.write("/f", OLD, write_type="MUST_CACHE")
        mount = Mount(fs, cluster, "/f")
        os.pwrite(mount.descriptor, NEW, 0)
        with pytest.raises(isotach.IsotachError):
            mount.sync_and_publish()
        mount.die()
        assert marker.exists(), f"nothing passed {point}"
        eventually(lambda: fs.stat("/f").length == len(NEW), timeout=30)
        assert fs.read("/f") == NEW
        eventually(lambda: fs.stat("/f").persisted, timeout=20)
        eventually(lambda: len(files_in_cache(cluster)) == 1, message="a container or draft leaks")
