"""Finding sequential streams by offset, and how far to read ahead of each: pure.

Owns: the streams of one version and the ramp of their windows. Never: fetches.

Streams are found by where reads fall, not by who reads: several readers of one epoch share a stream, and one reader
that strides through columns has several. A read at the very start counts as the start of a stream; any other read must
be continued once before anything is read ahead, so random access never triggers it. The window doubles with every read
that continues the stream, from two pages to the bound.
"""

from isotach.base.limits import PAGE_BYTES, READ_STREAMS_PER_VERSION_MAX

_FIRST_WINDOW_BYTES = 2 * PAGE_BYTES
#: How far from the expected place a read may fall and still continue the stream (pipelined reads overtake each other).
_SLACK_BYTES = 2 * PAGE_BYTES


class _Stream:
    __slots__ = ("position", "window")

    def __init__(self, position: int, window: int) -> None:
        self.position = position  # where the next read is expected
        self.window = window


class Streams:
    """The streams of one version, the latest used last. For one thread at a time."""

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        self._streams: list[_Stream] = []

    def note(self, offset: int, end: int, length: int, window_max: int, unit_bytes: int) -> int:
        """A reader asks for [offset, end) of a file of `length` bytes: up to which byte to fetch, `end` for no further.

        Once the window holds a whole request of `unit_bytes`, the answer is a border between such requests (or the end
        of the file): a steady stream asks the store for large, aligned ranges only.
        """
        stream = self._continued(offset)
        if stream is None:
            stream = _Stream(end, min(window_max, _FIRST_WINDOW_BYTES) if offset == 0 else 0)
            if len(self._streams) >= READ_STREAMS_PER_VERSION_MAX:
                del self._streams[0]
            self._streams.append(stream)
        elif end > stream.position:
            stream.position = end
            stream.window = min(window_max, max(_FIRST_WINDOW_BYTES, 2 * stream.window))
        ahead = stream.position + stream.window
        if ahead >= length:
            return max(end, length if stream.window else end)
        if stream.window >= unit_bytes:
            ahead -= ahead % unit_bytes
        return max(end, ahead)

    def _continued(self, offset: int) -> _Stream | None:
        for place, stream in enumerate(self._streams):
            if stream.position - _SLACK_BYTES <= offset <= stream.position + _SLACK_BYTES:
                self._streams.append(self._streams.pop(place))
                return stream
        return None
