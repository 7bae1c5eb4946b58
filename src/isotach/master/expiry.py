"""Times to live: what happens when they end.

Owns: waking at the next end, and acting in slices. Never: removes or frees by itself; it calls the services that users
call, and never scans the namespace: there is an index by time.

Ends are wall-clock times. A clock set forward makes what it passes over due at once; one set back only delays.
"""

import asyncio
import errno
import os

from isotach.base.limits import EXPIRIES_IN_FLIGHT_MAX, EXPIRY_BUSY_RETRY_S, EXPIRY_RETRY_S, EXPIRY_SLICE
from isotach.base.types import TtlAction
from isotach.kv.interface import Batch
from isotach.master.core import Core
from isotach.master.residency import Residency
from isotach.master.store_operations import StoreOperations
from isotach.namespace import ttl
from isotach.namespace.actor import SYSTEM
from isotach.namespace.ttl import Expired
from isotach.obs.log import get_logger

log = get_logger("master.expiry")
_KEY_KIND = ord("x")
_SLEEP_S_MIN = 0.001
#: When what is due could not be acted upon: it lies in a tree that is being removed.
_OVERDUE_SLEEP_S = 0.1


class Expiry:
    """One per master. For the event-loop thread. `check_s`: the clock is looked at no more seldom."""

    def __init__(self, core: Core, operations: StoreOperations, residency: Residency, check_s: float) -> None:
        self._core = core
        self._operations = operations
        self._residency = residency
        self._check_s = check_s
        self._woken = asyncio.Event()
        self._sleeps_until_ms = 0
        self.fired = {action.value: 0 for action in TtlAction}
        core.pipeline.on_commit(self._committed)

    async def run(self) -> None:
        """For ever: acts on what is due, sleeps until the next end, or until an earlier one is set."""
        while True:
            self._woken.clear()
            more = False
            try:
                more = await self.round()
            except Exception as error:  # the world's faults end one round, never the loop
                log.error("ttl_round_failed", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(EXPIRY_RETRY_S)
            if more:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(self._sleep_s()):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def round(self) -> bool:
        """Acts on one slice of what is due now; whether there may be more. What cannot be done (a store that is away, a
        file that must be persisted first) is tried again later, and stands in nobody's way until then."""
        with self._core.reading() as view:
            due = ttl.due(view, self._core.clock.now_ms(), EXPIRY_SLICE)
        turns = asyncio.Semaphore(EXPIRIES_IN_FLIGHT_MAX)
        async with asyncio.TaskGroup() as group:
            fired = [(expired, group.create_task(self._fire_in_turn(expired, turns))) for expired in due.expired]
        again: dict[float, list[Expired]] = {}
        for expired, task in fired:
            if task.result():
                again.setdefault(task.result(), []).append(expired)
        now_ms = self._core.clock.now_ms()
        for pause_s, postponed in again.items():
            later_ms = now_ms + int(pause_s * 1000)
            await self._core.pipeline.submit(
                lambda view, late=postponed, until=later_ms: ttl.postpone(view, late, until)  # type: ignore[misc]
            )
        return due.more and bool(due.expired)

    async def _fire_in_turn(self, expired: Expired, turns: asyncio.Semaphore) -> float:
        """Seconds after which this one must be tried again; 0: it is over with it."""
        async with turns:
            try:
                return 0.0 if await self._fire(expired) else EXPIRY_RETRY_S
            except FileNotFoundError:
                return 0.0  # removed in the meantime
            except OSError as error:
                # Busy is what has had something mounted inside since: that may stay so for long.
                pause_s = EXPIRY_BUSY_RETRY_S if error.errno == errno.EBUSY else EXPIRY_RETRY_S
                path = os.fsdecode(expired.path)
                log.warning("ttl_action_failed", path=path, error=str(error), again_in_s=pause_s)
                return pause_s

    async def _fire(self, expired: Expired) -> bool:
        action = expired.inode.ttl_action
        if action == TtlAction.DELETE:
            await self._operations.remove_as(expired.path, True, SYSTEM, expired.inode)
        elif not await self._residency.free_expired(expired):
            log.info("ttl_waits_for_persistence", path=os.fsdecode(expired.path))
            return False
        self.fired[action] += 1
        log.debug("ttl_fired", path=os.fsdecode(expired.path), action=action)
        return True

    def _sleep_s(self) -> float:
        now_ms = self._core.clock.now_ms()
        with self._core.reading() as view:
            due_ms = ttl.next_due_ms(view)
        longest_ms = now_ms + int(self._check_s * 1000)
        self._sleeps_until_ms = longest_ms if due_ms is None else min(longest_ms, due_ms)
        if self._sleeps_until_ms <= now_ms:
            return _OVERDUE_SLEEP_S
        return max(_SLEEP_S_MIN, (self._sleeps_until_ms - now_ms) / 1000)

    def _committed(self, _index: int, rows: Batch) -> None:
        """Wakes the loop for an end that comes before the one it sleeps for."""
        for key, value in rows:
            if key[0] == _KEY_KIND and value is not None and int.from_bytes(key[1:9], "big") < self._sleeps_until_ms:
                self._woken.set()
                return
