"""Times to live: what happens when they end.

Owns: the round that looks for them. Never: removes or frees by itself; it calls the services that users call.
"""

import os

from isotach.base.limits import WALK_SLICE_ENTRIES
from isotach.base.types import TtlAction
from isotach.master.core import Core
from isotach.master.residency import Residency
from isotach.master.store_operations import StoreOperations
from isotach.namespace import ttl
from isotach.namespace.actor import SYSTEM
from isotach.namespace.ttl import Expired
from isotach.obs.log import get_logger

log = get_logger("master.expiry")


class Expiry:
    """One per master."""

    def __init__(self, core: Core, operations: StoreOperations, residency: Residency) -> None:
        self._core = core
        self._operations = operations
        self._residency = residency
        self.fired = {action.value: 0 for action in TtlAction}

    async def round(self) -> None:
        """Acts on everything that is due now. What cannot be done (a store that is away) is tried in the next round."""
        with self._core.reading() as view:
            due = ttl.due(view, self._core.clock.now_ms(), WALK_SLICE_ENTRIES)
        for expired in due:
            try:
                await self._fire(expired)
            except FileNotFoundError:
                continue  # removed in the meantime
            except OSError as error:
                log.warning("ttl_action_failed", path=os.fsdecode(expired.path), error=str(error))

    async def _fire(self, expired: Expired) -> None:
        action = expired.inode.ttl_action
        if action == TtlAction.DELETE:
            await self._operations.remove_as(expired.path, True, SYSTEM, expired.inode)
        else:
            await self._residency.free_expired(expired)
        self.fired[action] += 1
        log.info("ttl_fired", path=os.fsdecode(expired.path), action=action)
