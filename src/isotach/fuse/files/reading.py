"""READ: from the file being written, from what is at hand at once, or later from readers that wait for bytes.

Owns: the choice among these. Never: opens a file that has an open, or changes one.
"""

from typing import Final

from isotach.base.types import ReadBuffer
from isotach.fuse.contract import Later, Reply, Request
from isotach.fuse.files.counters import FileCounters
from isotach.fuse.files.table import OpenTable, file_id_of
from isotach.fuse.files.unopened import UnopenedReads
from isotach.fuse.protocol.layouts import READ_IN


class Reading:
    """The reads of a mount. Any thread."""

    def __init__(self, later: Later, table: OpenTable, unopened: UnopenedReads, counters: FileCounters) -> None:
        self._later: Final = later
        self._table: Final = table
        self._unopened: Final = unopened
        self._counters: Final = counters

    def read(self, request: Request) -> Reply:
        """The bytes; None: they come later."""
        _, offset, size, _, _, _ = READ_IN.unpack_from(request.body)
        counters = self._counters
        counters.reads += 1
        open_node = self._table.find(request.node)
        data: ReadBuffer | None
        if open_node is None:
            data = self._unopened.read_now(file_id_of(request.node), offset, size)
        elif open_node.shared is not None:
            live = open_node.shared.live
            data = live.read(offset, size) if live.at_hand(offset, size, False) else None
        elif open_node.content is not None:
            data = open_node.content.read_now(offset, size)
        else:
            data = None
        if data is None:
            counters.late_reads += 1
            self._later.run("read", request, self._read_late)
            return None
        counters.read_bytes += len(data)
        return (data,)

    def _read_late(self, request: Request) -> Reply:
        _, offset, size, _, _, _ = READ_IN.unpack_from(request.body)
        open_node = self._table.find(request.node)
        data: ReadBuffer
        if open_node is None:
            data = self._unopened.read(file_id_of(request.node), offset, size)
        elif open_node.shared is not None:
            data = open_node.shared.live.read(offset, size)
        elif open_node.content is not None:
            data = open_node.content.read(offset, size)
        else:  # passthrough: the kernel asks the daemon only for what was opened before a restart
            data = self._unopened.read(file_id_of(request.node), offset, size)
        self._counters.read_bytes += len(data)
        return (data,)
