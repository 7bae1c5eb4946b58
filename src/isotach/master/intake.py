"""Judging a page of a worker's report against the namespace, and making the rows of it. Runs in a thread.

Owns: what of a report is current, what is obsolete, what nobody can say yet. Never: writes, tells a worker, or touches
anything of the event loop.

This is the code that a million reported files pass through, so it does little per file: a row that says what is known
already is compared as bytes and left alone; a version that nobody else holds is written without being summed up.
"""

from collections.abc import Callable, Iterable

import msgspec

from isotach.base.types import BlockHolder, CacheState, FileId, Flag, Version, WorkerId
from isotach.kv.interface import Batch, Snapshot
from isotach.master.location_rows import (
    VERSION_END,
    Change,
    Loss,
    Orphan,
    Share,
    batch_of,
    decode_share,
    encode,
    share_of,
    shares_in,
    version_key,
    worker_prefix,
)
from isotach.namespace import keys
from isotach.namespace.records import decode_inode, decode_inode_head
from isotach.wire.messages import ReportedVersion


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be judged. `span`: the page tells of everything in that range. `check_all`: also what is known already
    (after a restart of the master). `doubts_max`: how many versions may be kept that no path leads to, for they could
    be written under a grant of the master's former life."""

    worker_id: WorkerId
    rows: list[ReportedVersion]
    removed: list[Version] = []
    span: tuple[Version, Version] | None = None
    check_all: bool = False
    doubts_max: int = 0


class Judged(msgspec.Struct, kw_only=True):
    """What the event loop has to do about it."""

    obsolete: list[Version] = []
    persisted: list[tuple[Version, str | None]] = []  # the worker missed that these are, with their fingerprints
    found: list[Orphan] = []  # they were lost
    doubtful: list[tuple[Version, FileId]] = []
    unfinished: list[ReportedVersion] = []  # of an earlier process of the worker, and not complete so far
    ruled: list[FileId] = []  # their policy says how many workers hold them
    loss: Loss = Loss()


def judge(soft: Snapshot, names: Snapshot, page: Page, is_pending: Callable[[Version], bool]) -> tuple[Batch, Judged]:
    """The rows to write, and the rest."""
    known = {} if page.span is None else dict(shares_in(soft, page.worker_id, *page.span))
    prefix = worker_prefix(page.worker_id)
    out = Judged()
    batch: Batch = []
    changes: list[Change] = []
    get_state, get_name, has_rules = soft.get, names.get, _any(names, b"r")
    for row in page.rows:
        share = share_of(row)
        raw = encode(share)
        before = known.pop(row.version, None)
        same = before == raw
        if same and not (row.dirty or row.former or page.check_all):
            continue
        if not _belongs(row, get_name, is_pending, page.doubts_max, out):
            if page.span is None or before is not None:
                changes.append(Change(row.version, page.worker_id, None))
            continue
        if has_rules and get_name(keys.replicated(row.file_id)) is not None:
            out.ruled.append(row.file_id)
        if same:
            continue
        key = version_key(row.version)
        if not row.cached_bytes:
            changes.append(Change(row.version, page.worker_id, None))
        elif get_state(key) is None:
            batch.append((prefix + key, raw))
            batch.append((key, encode(_only(page.worker_id, share))))
        else:
            changes.append(Change(row.version, page.worker_id, share))
    changes += [Change(version, page.worker_id, None) for version in (*known, *page.removed)]
    if has_rules:
        out.ruled += _ruled_among(soft, get_name, prefix, (*known, *page.removed))
    rest, out.loss = batch_of(soft, changes)
    return batch + rest, out


def _belongs(
    row: ReportedVersion,
    get: Callable[[bytes], bytes | None],
    is_pending: Callable[[Version], bool],
    doubts_max: int,
    out: Judged,
) -> bool:
    """Whether the worker may keep it; what else is to be done about it goes into `out`."""
    place = get(keys.location(row.file_id))
    raw = None if place is None else get(b"e" + place)
    if raw is not None:
        head = decode_inode_head(raw)
        if head.version == row.version and head.id == row.file_id:
            if row.dirty:
                _note_flags(row, raw, out)
            return True
    if row.former:
        out.unfinished.append(row)
        return False
    if is_pending(row.version):
        return True
    if row.dirty and len(out.doubtful) < doubts_max:
        out.doubtful.append((row.version, row.file_id))
        return True
    out.obsolete.append(row.version)
    return False


def _note_flags(row: ReportedVersion, raw: bytes, out: Judged) -> None:
    inode = decode_inode(raw)
    if inode.flags & Flag.PERSISTED:
        out.persisted.append((row.version, inode.fingerprint))
    elif inode.flags & Flag.LOST:
        out.found.append(Orphan(row.version, row.file_id))


def _ruled_among(
    soft: Snapshot, get: Callable[[bytes], bytes | None], prefix: bytes, versions: Iterable[Version]
) -> list[FileId]:
    """The files of versions that a worker had, as far as a policy bounds their copies."""
    raws = (soft.get(prefix + version_key(version)) for version in versions)
    file_ids = [decode_share(raw).file_id for raw in raws if raw is not None]
    return [file_id for file_id in file_ids if get(keys.replicated(file_id)) is not None]


def _only(worker_id: WorkerId, share: Share) -> CacheState:
    return CacheState(
        share.memory_bytes,
        share.cached_bytes,
        [BlockHolder(worker_id, share.memory_bytes, share.cached_bytes, share.blocks)],
    )


def _any(names: Snapshot, prefix: bytes) -> bool:
    return next(iter(names.scan(*keys.all_of(prefix))), None) is not None


def whole(span: tuple[Version, Version] | None, first: bool) -> tuple[Version, Version] | None:
    """The range that a page of a report of everything tells of: all of it, for one that names none."""
    return (0, VERSION_END) if first and span is None else span
