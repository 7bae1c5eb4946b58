"""A wall clock that jumps, as after a correction or a resumed machine: leases, queues and files do not mind.

Owns: jumps of the clock of records. Never: the monotonic one, which the kernel never sets back.
"""

import time

from isotach.base.types import Flag
from isotach.master.clock import Clock
from isotach.wire import messages as wire

from .conftest import connected, eventually
from .scripted_worker import worker_of

HOUR_NS = 3600 * 10**9


class JumpingClock:
    """Real time plus a shift."""

    def __init__(self) -> None:
        self.shift_ns = 0
        self.clock = Clock(now_ns=lambda: time.time_ns() + self.shift_ns)


def test_workers_live_and_writes_work_through_jumps(home, run):
    async def scenario():
        jumping = JumpingClock()
        async with home.master(clock=jumping.clock, master__worker_timeout="2s") as master, connected(master) as client:
            async with worker_of(home, master) as worker:
                for number, hours in enumerate((0, 30_000, -1, 1, -30_000, 0)):
                    jumping.shift_ns = hours * HOUR_NS
                    await worker.write(client, b"/%d" % number, b"data", "ASYNC_THROUGH")
                    await client.call(wire.PERSIST, wire.PersistRequest(b"/%d" % number))
                    assert (await worker.heartbeat()).known
                    assert [row.live for row in (await client.call(wire.WORKERS, wire.Empty())).workers] == [True]
            assert [(home.store / str(number)).read_bytes() for number in range(6)] == [b"data"] * 6

    run(scenario)


def test_what_waits_in_the_queue_does_not_wait_for_a_clock_that_was_set_back(home, run):
    async def scenario():
        jumping = JumpingClock()
        jumping.shift_ns = HOUR_NS
        async with home.master(clock=jumping.clock) as master, connected(master) as client:
            async with worker_of(home, master, serve=False) as worker:
                inode = await worker.write(client, b"/f", b"data", "ASYNC_THROUGH")
        jumping.shift_ns = 0
        async with home.master(clock=jumping.clock) as master, connected(master) as client:
            async with worker_of(home, master) as again:
                again.contents, again.file_ids = {inode.version: b"data"}, {inode.version: inode.id}
                assert await again.report(inode.version, first=True, dirty=True) == []

                async def persisted() -> bool:
                    return bool((await client.stat(b"/f")).inode.flags & Flag.PERSISTED)

                await eventually(persisted)
                assert (home.store / "f").read_bytes() == b"data"

    run(scenario)
