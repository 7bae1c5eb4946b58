"""The event loop of our processes: the only module that knows uvloop.

Owns: the choice of the loop. Never: runs services itself (the roles' mains do). All other code must work on any
asyncio loop, so that tests may bring their own.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def loop_factory() -> asyncio.AbstractEventLoop:
    """A new event loop of the kind that every role of ours runs on."""
    return uvloop.new_event_loop()


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` to its end on a loop of its own, then cancels what is left and closes the loop."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main)
