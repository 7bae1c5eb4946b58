"""LOAD: whole versions brought in, together within the bandwidth asked for, and small ones without a detour."""

import threading
import time

from isotach.base.limits import MIB
from isotach.wire import messages as wire
from isotach.wire.grants import unseal

from .conftest import SECRET
from .test_reading import content


def test_loads_of_one_limit_share_it(world):
    grants = [world.put_ufs(f"f{number}", content(MIB)) for number in range(5)]
    began = time.monotonic()
    threads = [
        threading.Thread(
            target=lambda grant=grant: world.connect().call(wire.LOAD, wire.LoadRequest(grant, bandwidth=5 * MIB))
        )
        for grant in grants
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert time.monotonic() - began > 0.6  # the first passes at once, the last waits for four fifths of a second
    assert len(world.worker.store.versions()) == 5


def test_a_command_to_load_names_its_limit_and_its_outcome(world, eventually):
    sealed = world.put_ufs("f", content(3 * MIB))
    version = unseal(SECRET, sealed, wire.ReadGrant, 0).version
    number = world.master.command("LOAD", version, grant=sealed, bandwidth=100 * MIB)
    eventually(lambda: number in world.master.results)
    assert world.master.results[number].ok
    assert world.worker.store.get(version).complete


def test_a_cold_small_file_comes_complete_with_its_opening(world):
    data = content(100_000)
    sealed = world.put_ufs("small", data)
    connection = world.connect()
    reply, _, descriptor = connection.call_with_fd(wire.OPEN, wire.OpenRequest(sealed))
    with open(descriptor, "rb") as file:
        assert file.read() == data
    assert (reply.handle, reply.complete) == (0, True)
    assert world.worker._reading.fetches_running == 0
