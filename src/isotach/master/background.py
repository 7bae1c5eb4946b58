"""The tasks that the master runs on its own: kept, named, logged when they fail, ended with it.

Owns: every task that no call waits for. Never: knows what they do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from isotach.obs.log import get_logger

log = get_logger("master.background")
T = TypeVar("T")


class Background:
    """A group of tasks in which one may fail without the others: the fault is logged, the rest go on."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, T], *, awaited: bool = False) -> asyncio.Task[T]:
        """Starts `work`; it ends by itself or with `close`. A failure is logged, unless somebody awaits it for sure."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended_quietly if awaited else self._ended)
        return task

    def every(self, name: str, interval_s: float, action: Callable[[], Awaitable[object]]) -> None:
        """Runs `action` again and again, `interval_s` after it last ended; a fault is logged and it goes on."""
        self.spawn(name, self._repeat(name, interval_s, action))

    async def close(self) -> None:
        """Cancels all and waits until they have ended."""
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _repeat(self, name: str, interval_s: float, action: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await action()
            except Exception as error:  # the world's faults end one round, never the loop
                log.error("background_round_failed", task=name, error=f"{type(error).__name__}: {error}")

    def _ended_quietly(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: whoever awaits it gets it

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("background_task_failed", task=task.get_name(), error=f"{type(error).__name__}: {error}")


def awaitable(action: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    """A plain function in the form that `Background.every` takes."""

    async def act() -> None:
        action()

    return act
