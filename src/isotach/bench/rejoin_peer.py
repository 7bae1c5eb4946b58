"""A worker without bytes: registers with a master and reports a million versions, as a worker does that comes back.

Owns: a block store that only says what it would hold. Everything else is the worker's own code. Started by `rejoin`;
prints a line when it begins, and then the seconds until its last page was answered and the number of versions that the
master did not know. Never: serves a read.
"""

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import msgspec

from isotach.base.limits import BLOCK_BYTES_DEFAULT, GIB
from isotach.base.types import FileId, TierInfo, Version
from isotach.blockstore.entry import CacheReport, VersionMeta
from isotach.master.secret import load_secret
from isotach.net.address import host_key
from isotach.worker.master_link import MasterLink
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.reports import Reports

if TYPE_CHECKING:
    from isotach.blockstore.store import BlockStore

_REPORTED_WITHIN_S: Final = 300.0


class Holdings:
    """What `Reports` asks of a block store."""

    def __init__(self, held: dict[Version, tuple[FileId, int]]) -> None:
        self._held = held

    def versions(self) -> list[Version]:
        return list(self._held)

    def report(self, version: Version) -> CacheReport | None:
        """All of the version, clean, in memory."""
        held = self._held.get(version)
        if held is None:
            return None
        file_id, length = held
        meta = VersionMeta(version, file_id, length, BLOCK_BYTES_DEFAULT)
        return CacheReport(meta, True, length, b"\x01", False, False)

    def free(self, version: Version, force: bool = False) -> bool:
        """The master knows it no more: our list was wrong."""
        del self._held[version]
        return True


class BytelessWorker:
    """Who the worker says it is (its addresses lead nowhere), its tie to the master, and its reports."""

    worker_id: Final = "bench-rejoin"
    host: Final = "bench-rejoin"
    address: Final = "isotach://127.0.0.1:1"
    local_socket: Final = ""

    def __init__(self, master: str, secret: bytes, held: dict[Version, tuple[FileId, int]]) -> None:
        self.secret: Final = secret
        self.host_key: Final = host_key()
        self.locality: Final[list[tuple[str, str]]] = []
        used = sum(length for _, length in held.values())
        self.link: Final = MasterLink(
            master,
            self,
            WorkerMetrics(),
            heartbeat_s=1.0,
            tiers=lambda: [TierInfo("MEM", max(used, GIB), used)],
            registered=self._registered,
            unregistered=self._unregistered,
            take_commands=lambda _commands: None,
            reported=lambda: self.reports.sequence,
            versions=lambda: len(held),
        )
        self.reports: Final = Reports(self.worker_id, self.link.report, self.link.lost)
        self.reports.start(cast("BlockStore", Holdings(held)))

    def _registered(self, report_all: bool) -> None:
        self.reports.registered(report_all)

    def _unregistered(self) -> None:
        self.reports.unregistered()


def main(address: str, cluster_folder: str, holdings: str) -> None:
    """Registers, reports, prints, and stays until it is ended."""
    held = msgspec.msgpack.decode(Path(holdings).read_bytes(), type=dict[Version, tuple[FileId, int]])
    count = len(held)
    worker = BytelessWorker(address, load_secret(Path(cluster_folder), None), held)
    print("begins", flush=True)
    started = time.perf_counter()
    worker.link.start()
    if not worker.reports.wait_full(_REPORTED_WITHIN_S):
        raise TimeoutError(f"not all was reported within {_REPORTED_WITHIN_S:.0f} s")
    print(f"{time.perf_counter() - started:.3f} {count - len(held)}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:4])
