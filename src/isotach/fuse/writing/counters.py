"""What the writing through a mount did, in plain numbers, for metrics, tests and `isotach fuse status`.

Owns: the counts. Never: locks: a count lost in a race is no harm.
"""


class WritingCounters:
    """Since the mount began."""

    __slots__ = ("given_up", "publish_failures", "published", "published_late", "written_bytes")

    def __init__(self) -> None:
        self.written_bytes = 0
        self.published = 0  # versions
        self.published_late = 0  # of them, those that no call of a program waited for
        self.publish_failures = 0  # each is tried again
        self.given_up = 0  # files whose last content was lost

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in self.__slots__}
