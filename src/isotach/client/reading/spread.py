"""Reading a file whose blocks lie on several workers: each block from a worker that holds it.

Owns: the worker of each block, and one open handle per worker. Never: retries; when a worker fails, the reader above
falls back to a single worker, which finds the other blocks itself.
"""

from isotach.base.types import ReadType
from isotach.client.link import Link
from isotach.client.reading.opening import Opened, open_at
from isotach.client.reading.sources import Source, source_of
from isotach.client.routing import block_count_of, holders_by_block
from isotach.wire.messages import StatReply, WorkerRow


class SpreadSource:
    """A source over several workers' sources."""

    def __init__(self, link: Link, found: StatReply, read_type: ReadType) -> None:
        self._link = link
        self._found = found
        self._read_type = read_type
        self._block_size = found.inode.block_size
        self._workers = _worker_of_blocks(link, found)
        self._open: dict[str, tuple[Opened, Source]] = {}

    def read_into(self, offset: int, view: memoryview) -> int:
        block = offset // self._block_size
        row = self._workers[block]
        stop = block + 1
        while stop < len(self._workers) and self._workers[stop] is row:
            stop += 1
        wanted = view[: stop * self._block_size - offset]
        return self._source_at(row, offset).read_into(offset, wanted)

    def suits(self, offset: int) -> bool:
        return offset >= 0

    def close(self) -> None:
        """Closes the handles at all workers."""
        while self._open:
            self._open.popitem()[1][0].close()

    def _source_at(self, row: WorkerRow, offset: int) -> Source:
        known = self._open.get(row.worker_id)
        if known is not None:
            if known[1].suits(offset):
                return known[1]
            del self._open[row.worker_id]
            known[0].close()
        opened = open_at(self._link, row, self._found.grant, self._read_type)
        source = source_of(opened, self._found.inode.length)
        self._open[row.worker_id] = opened, source
        return source


def _worker_of_blocks(link: Link, found: StatReply) -> list[WorkerRow]:
    ranked = link.ranked_workers(found)
    count = block_count_of(found.inode.length, found.inode.block_size)
    held = holders_by_block(found.cache, count)
    return [next((row for row in ranked if row.worker_id in ids), ranked[0]) for ids in held]
