"""File objects with awaitable methods: a blocking file whose calls run in threads.

Owns: `AsyncFile` and `Opening`. Never: knows where the bytes come from.
"""

import asyncio
import functools
import types
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Executor
from typing import IO, Any, ParamSpec, Self, TypeVar

from isotach.client.writing.files import WriteFile, WriteTextFile

P = ParamSpec("P")
R = TypeVar("R")


class AsyncFile:
    """An open file. One call at a time; an asynchronous context manager, and iterable by lines."""

    def __init__(self, file: IO[Any], threads: Executor) -> None:
        # Text or binary is known by the mode given at run time only, so the type of what is read is not.
        self._file = file
        self._threads = threads

    @property
    def name(self) -> str:
        """The path in the namespace."""
        return self._file.name

    @property
    def closed(self) -> bool:
        return self._file.closed

    async def read(self, size: int = -1) -> Any:
        return await self._in_thread(self._file.read, size)

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Only for binary files."""
        readinto: Callable[[object], int] = self._file.readinto  # type: ignore[attr-defined]
        return await self._in_thread(readinto, buffer)

    async def readline(self) -> Any:
        return await self._in_thread(self._file.readline)

    async def write(self, data: Any) -> int:
        return await self._in_thread(self._file.write, data)

    async def seek(self, offset: int, whence: int = 0) -> int:
        return await self._in_thread(self._file.seek, offset, whence)

    async def tell(self) -> int:
        return await self._in_thread(self._file.tell)

    async def flush(self) -> None:
        await self._in_thread(self._file.flush)

    async def close(self) -> None:
        """As of the blocking file: for one being written this is the commit."""
        await self._in_thread(self._file.close)

    async def abort(self) -> None:
        """Closes a file being written without committing."""
        if isinstance(self._file, WriteFile | WriteTextFile):
            await self._in_thread(self._file.abort)
        else:
            await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()

    def __aiter__(self) -> "AsyncFile":
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def _in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class Opening:
    """What `open` gives: await it for the file, or use it in `async with`."""

    def __init__(self, opened: Callable[[], Awaitable[AsyncFile]]) -> None:
        self._opened = opened
        self._file: AsyncFile | None = None

    def __await__(self) -> Generator[object, None, AsyncFile]:
        return self._opened().__await__()

    async def __aenter__(self) -> AsyncFile:
        self._file = await self._opened()
        return self._file

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        assert self._file is not None
        await self._file.__aexit__(kind, error, trace)
