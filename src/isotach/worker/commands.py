"""Carrying out what the master asks for: FREE, MARK_PERSISTED, PIN, UNPIN at once; PERSIST, LOAD, REPLICATE in threads.

Owns: the pools and the results. Never: talks to the master itself.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Protocol

from isotach.base.errors import IsotachError, told
from isotach.base.limits import PERSIST_LANES, REPORT_WAIT_S
from isotach.base.types import Version, WorkerId
from isotach.blockstore.store import BlockStore
from isotach.obs.log import get_logger
from isotach.ufs.trouble import is_store_trouble
from isotach.wire.messages import Command, CommandResult, ReadGrant, WorkerRow
from isotach.worker.grant_cache import GrantCache
from isotach.worker.load_threads import LoadThreads
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.persist import Persister
from isotach.worker.sources import Source

log = get_logger("worker.commands")
_NOT_SAID: Final = -1
_LONG: Final = frozenset({"PERSIST", "LOAD", "REPLICATE", "VERIFY"})


class Load(Protocol):
    """Brings a version in; see `loading.Loader.load`."""

    def __call__(
        self,
        grant: ReadGrant,
        *,
        holders: Sequence[WorkerId] = (),
        rows: Sequence[WorkerRow] = (),
        bandwidth: int = 0,
    ) -> int: ...


class Commands:
    """One per worker. `others` gives a version's bytes from the workers that hold it; `done` takes each outcome, and
    whether it may wait a moment for others to be told with it."""

    def __init__(
        self,
        store: BlockStore,
        grants: GrantCache,
        persister: Persister,
        metrics: WorkerMetrics,
        *,
        load: Load,
        verify: Callable[[ReadGrant], int],
        others: Callable[[ReadGrant], Source],
        wait_reported: Callable[[Version, float], None],
        done: Callable[[CommandResult, bool], None],
        persist_threads: int,
    ) -> None:
        self._store: Final = store
        self._grants: Final = grants
        self._persister: Final = persister
        self._metrics: Final = metrics
        self._load: Final = load
        self._verify: Final = verify
        self._others: Final = others
        self._wait_reported: Final = wait_reported
        self._done: Final = done
        self._persists: Final = [
            ThreadPoolExecutor(persist_threads, f"persist-{lane}") for lane in range(PERSIST_LANES)
        ]
        self._loads: Final = LoadThreads()
        self._lock: Final = threading.Lock()
        self._running: dict[tuple[str, Version], list[int]] = {}

    def close(self) -> None:
        """Takes no more; what runs goes on to its end or to the end of the process."""
        for pool in self._persists:
            pool.shutdown(wait=False, cancel_futures=True)
        self._loads.close()

    def take(self, commands: Sequence[Command]) -> None:
        """Carries them out, or hands them to a pool."""
        at_once = [command for command in commands if command.kind not in _LONG]
        for command in commands:
            if command.kind in _LONG:
                self._start(command)
        results = [self._outcome(command, self._at_once) for command in at_once]
        for command in [each for each in at_once if each.kind == "FREE"][-1:]:
            self._wait_reported(command.version, REPORT_WAIT_S)  # so that a stat after the free shows it
        for result in results:
            self._done(result, False)

    def _start(self, command: Command) -> None:
        """A command for what is under way already shares its outcome."""
        key = (command.kind, command.version)
        with self._lock:
            waiting = self._running.get(key)
            if waiting is not None:
                waiting.append(command.command_id)
                return
            self._running[key] = [command.command_id]
        if command.kind == "PERSIST":
            self._persist_pool(command).submit(self._run, command, key)
        else:
            self._loads.submit(partial(self._run, command, key))

    def _persist_pool(self, command: Command) -> ThreadPoolExecutor:
        """Those of one mount: a store that hangs holds up its own files only."""
        try:
            mount_id = self._grants.read(command.grant).mount_id
        except IsotachError:
            mount_id = 0  # told when it is carried out
        return self._persists[mount_id % PERSIST_LANES]

    def _run(self, command: Command, key: tuple[str, Version]) -> None:
        long: dict[str, Callable[[Command], int]] = {
            "PERSIST": self._persist,
            "REPLICATE": self._replicate,
            "VERIFY": self._compare,
        }
        carry_out = long.get(command.kind, self._bring_in)
        result = self._outcome(command, carry_out)
        with self._lock:
            waiting = self._running.pop(key)
            more_to_come = command.kind == "LOAD" and bool(self._running)
        for command_id in waiting:
            told_as = CommandResult(command_id, result.ok, result.error, result.store_trouble, result.cached_bytes)
            self._done(told_as, more_to_come)

    def _outcome(self, command: Command, carry_out: Callable[[Command], int]) -> CommandResult:
        try:
            cached_bytes = carry_out(command)
        except Exception as error:  # the master decides what becomes of it
            expected = isinstance(error, IsotachError | OSError)
            log.warning(
                "command_failed",
                kind=command.kind,
                version=command.version,
                error=error,
                **({} if expected else {"exc_info": error}),
            )
            return CommandResult(command.command_id, False, told(error), is_store_trouble(error))
        return CommandResult(command.command_id, True, cached_bytes=cached_bytes)

    def _at_once(self, command: Command) -> int:
        version = command.version
        if command.kind == "FREE":
            if not self._store.free(version, command.force):
                raise IsotachError(f"version {version} is not persisted: persist it first")
        elif command.kind == "MARK_PERSISTED":
            self._store.mark_persisted(version, command.fingerprint)
        elif command.kind in ("PIN", "UNPIN"):
            self._store.set_pinned(version, command.kind == "PIN", command.tier)
        else:
            raise IsotachError(f"this worker does not know the command {command.kind}: upgrade it")
        return _NOT_SAID

    def _persist(self, command: Command) -> int:
        grant = self._grants.read(command.grant)
        try:
            self._persister.persist(grant, self._others(grant))
        except BaseException:
            self._metrics.persist_failed.add()
            raise
        self._metrics.persist_done.add()
        return _NOT_SAID

    def _compare(self, command: Command) -> int:
        return self._verify(self._grants.read(command.grant))

    def _bring_in(self, command: Command) -> int:
        rows = command.holders
        holders = [row.worker_id for row in rows]
        return self._load(self._grants.read(command.grant), holders=holders, rows=rows, bandwidth=command.bandwidth)

    def _replicate(self, command: Command) -> int:
        """A whole copy, and the master's knowledge of it, before the answer."""
        grant, version = self._grants.read(command.grant), command.version
        self._bring_in(command)
        report = self._store.report(version)
        if report is None or report.cached_bytes < grant.length:
            raise IsotachError(f"there is no room for a copy of version {version}: free some, or add to the tiers")
        if command.dirty and not self._store.mark_dirty(version):
            raise IsotachError(f"the copy of version {version} was evicted at once: add to the tiers")
        self._wait_reported(version, REPORT_WAIT_S)
        return report.cached_bytes
