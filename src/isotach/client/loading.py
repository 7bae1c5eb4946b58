"""Bringing files into the cache ahead of their use.

Owns: which files need it, and how many are under way at once. Never: moves a byte itself: workers fetch.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from isotach.base.errors import AuthenticationError, StaleVersionError, UnavailableError
from isotach.base.limits import LOADS_IN_FLIGHT_MAX, LONG_CALL_DEADLINE_S
from isotach.base.paths import normalize
from isotach.base.types import FileInfo
from isotach.client.link import Link
from isotach.client.reading.opening import find_file, holders_beside
from isotach.wire.messages import LOAD, LoadRequest

OnProgress = Callable[[FileInfo], None]


def load_files(link: Link, infos: Iterator[FileInfo], on_progress: OnProgress | None) -> int:
    """Loads every file among `infos`, some at a time; how many there were. Directories are passed over.

    `on_progress` is called in this thread with each file that is in the cache. The first failure ends the loading: the
    loads under way are waited for, and it is raised.
    """
    count = 0
    under_way: dict[Future[None], FileInfo] = {}

    def settle(everything: bool) -> int:
        settled = 0
        while under_way and (everything or len(under_way) >= LOADS_IN_FLIGHT_MAX):
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                info = under_way.pop(future)
                future.result()
                settled += 1
                if on_progress is not None:
                    on_progress(info)
        return settled

    with ThreadPoolExecutor(LOADS_IN_FLIGHT_MAX, thread_name_prefix="isotach-load") as pool:
        for info in infos:
            if info.is_dir:
                continue
            under_way[pool.submit(_load_file, link, info)] = info
            count += settle(everything=False)
        return count + settle(everything=True)


def _load_file(link: Link, info: FileInfo) -> None:
    if not info.length or info.cached_percent == 100:
        return
    path = normalize(info.path)
    try:
        _load_version(link, path, None)
    except (StaleVersionError, AuthenticationError):
        _load_version(link, path, 0.0)


def _load_version(link: Link, path: bytes, sync_interval_s: float | None) -> None:
    found = find_file(link, path, sync_interval_s)
    problem = UnavailableError("no worker is live to load files into: start one with `isotach worker`")
    for row in link.ranked_workers(found) or link.ranked_workers(found, refresh=True):
        try:
            request = LoadRequest(found.grant, holders=holders_beside(found.cache, row.worker_id))
            link.worker(row).call(LOAD, request, deadline_s=LONG_CALL_DEADLINE_S)
            return
        except UnavailableError as away:
            problem = away
    raise problem
