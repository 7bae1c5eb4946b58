"""Cold reads from and writes to a real S3 server."""

import pytest

from isotach.base.errors import StaleVersionError
from isotach.base.limits import MIB
from isotach.base.types import Mount
from isotach.testing.seaweed import SeaweedServer
from isotach.ufs.registry import open_under_storage
from isotach.wire import messages as wire

from .conftest import MOUNT_ID
from .test_reading import content, read_all
from .test_writing import write


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory):
    with SeaweedServer.start(tmp_path_factory.mktemp("seaweed")) as server:
        server.create_bucket("worker")
        yield server


def test_an_object_is_written_read_cold_and_found_changed(world, seaweed, eventually):
    uri, options = "s3://worker/prefix", seaweed.options()
    world.master.mounts = [Mount(MOUNT_ID, 1, b"/", uri, options)]
    world.master.epoch += 1
    eventually(lambda: world.worker.link.mounts.epoch == world.master.epoch)
    data = content(25 * MIB + 3)
    version, grant = world.write_grant("d/object", "CACHE_THROUGH")
    connection = world.connect()
    write(connection, grant, data)
    storage = open_under_storage(uri, options)
    status = storage.stat("d/object")
    assert status.length == len(data)
    assert world.master.completed[version].fingerprint == status.fingerprint
    cold = world.read_grant("d/object", len(data), fingerprint=status.fingerprint)
    reply, _ = connection.call(wire.OPEN, wire.OpenRequest(cold, want_fd=False))
    assert read_all(connection, reply.handle, len(data)) == data
    writer = storage.open_write("d/object", 3)
    writer.write(b"new")
    writer.prepare()
    writer.commit()
    storage.close()
    stale = world.read_grant("d/object", len(data), fingerprint=status.fingerprint)
    reply, _ = connection.call(wire.OPEN, wire.OpenRequest(stale, want_fd=False))
    with pytest.raises(StaleVersionError):
        connection.call(wire.READ, wire.ReadRequest(reply.handle, 0, 100))
