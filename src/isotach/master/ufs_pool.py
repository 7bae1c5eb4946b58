"""The threads in which the master talks to under storages, so that its event loop never waits for one.

Owns: the pool and the counts of calls and failures. Never: retries (the drivers' wrapper does).
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from isotach.base.limits import UFS_THREADS

P = ParamSpec("P")
T = TypeVar("T")


class UfsPool:
    """At most `threads` blocking calls at once; more wait their turn."""

    def __init__(self, threads: int = UFS_THREADS) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="ufs")
        self.calls: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    async def run(self, operation: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Awaits one blocking call. Cancelling gives up the wait; the call itself runs to its end."""
        self.calls[operation] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self.errors[operation] += 1
            raise

    def close(self) -> None:
        """Refuses new calls; does not wait for those that hang in a dead store."""
        self._executor.shutdown(wait=False, cancel_futures=True)
