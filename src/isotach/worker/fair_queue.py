"""The order in which fetches are carried out: demand before read-ahead, users in turn, no mount beyond its share.

Owns: the order. Pure: no thread, no lock, no clock; its caller holds one lock around every call. Never: looks into what
it queues.

Users take turns by deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): a user's turn lasts until he had
`quantum` bytes more than he is owed, so that one user's ten thousand requests do not hold up another's one, and large
requests count for what they are. A mount whose requests under way have reached its limit is passed over: a store that
hangs keeps its own readers waiting, nobody else's.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
DEMAND: Final = 0
AHEAD: Final = 1


class _Lane(Generic[T]):
    """What one user waits for, by mount, in order of arrival within each."""

    __slots__ = ("deficit", "items")

    def __init__(self) -> None:
        self.deficit = 0
        self.items: OrderedDict[Hashable, deque[tuple[T, int]]] = OrderedDict()


class FairQueue(Generic[T]):
    """`limit` is how many items of one mount may be under way at once; `quantum` is bytes."""

    def __init__(self, limit: int, quantum: int) -> None:
        self._limit: Final = limit
        self._quantum: Final = quantum
        self._lanes: Final[tuple[OrderedDict[str, _Lane[T]], ...]] = (OrderedDict(), OrderedDict())
        self._running: dict[Hashable, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def running(self, mount: Hashable) -> int:
        """How many of this mount's items are under way."""
        return self._running.get(mount, 0)

    def push(self, item: T, user: str, mount: Hashable, size: int, priority: int) -> None:
        """Queues an item of `size` bytes."""
        lanes = self._lanes[priority]
        lane = lanes.get(user)
        if lane is None:
            lane = lanes[user] = _Lane()
        items = lane.items.get(mount)
        if items is None:
            items = lane.items[mount] = deque()
        items.append((item, size))
        self._count += 1

    def begin(self, mount: Hashable) -> bool:
        """Takes a place of this mount for something that was never queued; False when others wait for it, or it has
        none left."""
        if self._running.get(mount, 0) >= self._limit or self._is_awaited(mount):
            return False
        self._running[mount] = self._running.get(mount, 0) + 1
        return True

    def pop(self) -> tuple[T, Hashable] | None:
        """The next item and its mount, which counts as under way until `end`; None when none may run now."""
        for lanes in self._lanes:
            found = self._pop_from(lanes)
            if found is not None:
                return found
        return None

    def end(self, mount: Hashable) -> None:
        """What `pop` or `begin` gave is done."""
        left = self._running[mount] - 1
        if left:
            self._running[mount] = left
        else:
            del self._running[mount]

    def _pop_from(self, lanes: "OrderedDict[str, _Lane[T]]") -> tuple[T, Hashable] | None:
        passed_over = 0
        while passed_over < len(lanes):
            user, lane = next(iter(lanes.items()))
            mount = self._open_mount(lane)
            if mount is None:
                passed_over += 1
                lanes.move_to_end(user)
                continue
            passed_over = 0
            items = lane.items[mount]
            item, size = items[0]
            if size > lane.deficit and len(lanes) > 1 and self._others_can(lanes, user):
                lane.deficit += self._quantum
                lanes.move_to_end(user)
                continue
            items.popleft()
            lane.deficit = max(0, lane.deficit - size)
            if not items:
                del lane.items[mount]
            else:
                lane.items.move_to_end(mount)
            if not lane.items:
                del lanes[user]
            self._count -= 1
            self._running[mount] = self._running.get(mount, 0) + 1
            return item, mount
        return None

    def _open_mount(self, lane: _Lane[T]) -> Hashable | None:
        return next((mount for mount in lane.items if self._running.get(mount, 0) < self._limit), None)

    def _others_can(self, lanes: "OrderedDict[str, _Lane[T]]", user: str) -> bool:
        return any(other != user and self._open_mount(lane) is not None for other, lane in lanes.items())

    def _is_awaited(self, mount: Hashable) -> bool:
        return any(mount in lane.items for lane in self._lanes[DEMAND].values())
