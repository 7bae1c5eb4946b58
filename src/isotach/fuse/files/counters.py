"""What the open files did, in plain numbers, for metrics, tests and `isotach fuse status`.

Owns: the counts. Never: locks: a count lost in a race is no harm.
"""


class FileCounters:
    """Since the mount began."""

    __slots__ = (
        "cached_opens",
        "late_reads",
        "passthrough_opens",
        "read_bytes",
        "reads",
        "renewals",
        "writes",
        "written_bytes",
    )

    def __init__(self) -> None:
        self.passthrough_opens = 0  # opens whose reads the kernel serves itself
        self.cached_opens = 0
        self.reads = 0  # READ requests
        self.read_bytes = 0
        self.late_reads = 0  # of them, those that had to wait for bytes
        self.writes = 0
        self.written_bytes = 0
        self.renewals = 0  # opens that needed a kernel inode of their own

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in self.__slots__}
