"""The main of a reader process: `python -m isotach.run.reader_main`. The master starts it.

Owns: the composition of a reader: the stores opened read-only, the read service, its two listening addresses, and the
channel to the master for what only an under storage can answer. Never: changes anything.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence

from isotach.base.limits import LONG_CALL_DEADLINE_S, SNAPSHOT_RENEW_S
from isotach.conf.load import load_settings
from isotach.conf.settings import Settings
from isotach.kv.lmdb_store import LmdbStore
from isotach.master.background import Background, awaitable
from isotach.master.clock import Clock
from isotach.master.identity import Identity
from isotach.master.metrics import CallMetrics
from isotach.master.reader import ReadService
from isotach.master.secret import load_secret
from isotach.net.address import Address, host_key
from isotach.net.async_client import AsyncChannel
from isotach.net.dispatch import Dispatcher
from isotach.net.peer import Peer
from isotach.net.server import RpcServer
from isotach.obs.log import configure_logging, get_logger
from isotach.obs.metrics import Metrics
from isotach.run.lifecycle import Ready, report_failure, report_ready, watch_parent
from isotach.run.loop import run_loop
from isotach.ufs.uri import mask_options
from isotach.wire import messages as wire

log = get_logger("run.reader")


def main(settings: Settings, index: int, ready_fd: int | None = None, life_fd: int | None = None) -> int:
    """Runs a reader until its master ends or SIGTERM comes; returns the exit code."""
    configure_logging(settings.log.level, settings.log.format, settings.log.file, process=f"reader-{index}")
    watch_parent(life_fd)
    try:
        run_loop(_serve(settings, index, ready_fd))
    except Exception as error:
        log.error("reader_cannot_run", error=str(error), kind=type(error).__name__)
        report_failure(ready_fd, error)
        return 1
    return 0


async def _serve(settings: Settings, index: int, ready_fd: int | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    directory = settings.master.dir
    meta = LmdbStore(directory / "meta", map_bytes=settings.master.map_size, readonly=True)
    soft = LmdbStore(directory / "soft", readonly=True)
    background = Background()
    channel = AsyncChannel(Address.unix(settings.dir / "master.sock"))
    reads = _read_service(settings, meta, soft, channel)
    background.every("renew-reads", SNAPSHOT_RENEW_S, awaitable(reads.renew))
    dispatcher = Dispatcher(before_batch=reads.renew)
    reads.add_to(dispatcher)
    metrics = Metrics("master")
    dispatcher.add(wire.METRICS, lambda _request, _peer: wire.MetricsReply(metrics.render_snapshot()))
    server = RpcServer(dispatcher, lambda: _welcome(settings, index), CallMetrics(metrics))
    unix = await server.listen(Address.unix(settings.dir / f"reader-{index}.sock"))
    tcp = await server.listen(Address.tcp(settings.master.bind_host, 0))
    report_ready(ready_fd, Ready(pid=os.getpid(), address=str(unix), ports={"rpc": tcp.port}))
    try:
        await stop.wait()
    finally:
        await server.close()
        await background.close()
        await channel.close()
        soft.close()
        meta.close()


def _read_service(settings: Settings, meta: LmdbStore, soft: LmdbStore, channel: AsyncChannel) -> ReadService:
    security = settings.security
    identity = Identity(security.superuser, security.supergroup, enforced=security.permission_enabled)

    async def forward(request: wire.SyncRequest, _peer: Peer) -> None:
        await channel.call(wire.SYNC, request, deadline_s=LONG_CALL_DEADLINE_S)

    return ReadService(
        namespace=meta.renewable_snapshot(),
        cache_states=soft.renewable_snapshot(),
        secret=load_secret(settings.dir, security.cluster_secret_file),
        actor_of=identity.actor,
        forward=forward,
        mask=mask_options,
        now_s=Clock().now_s,
    )


def _welcome(settings: Settings, index: int) -> wire.Welcome:
    return wire.Welcome(
        protocol=0,
        role="reader",
        server_id=f"reader-{index}",
        host_key=host_key(),
        local_socket=os.fspath(settings.dir / f"reader-{index}.sock"),
    )


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="isotach-reader", description="A reader process of Isotach's master.")
    parser.add_argument("--index", type=int, required=True, help="the number of this reader, from 0")
    parser.add_argument("--overrides", type=json.loads, default={}, help="configuration keys as one JSON object")
    parser.add_argument("--ready-fd", type=int, help="descriptor on which to say, once, that it serves")
    parser.add_argument("--life-fd", type=int, help="descriptor whose end of file tells that the master is gone")
    given = parser.parse_args(arguments)
    return main(load_settings(given.overrides), given.index, given.ready_fd, given.life_fd)


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
