"""Which worker serves what: pure choices over the worker table.

Owns: the order in which workers are tried for a version, the worker of a block, and the blocks' locations for people.
Never: connects, waits or keeps state.
"""

import os
import zlib
from collections.abc import Sequence

import msgspec

from isotach.base.locality import distance
from isotach.base.placement import in_order, steps_to
from isotach.base.types import BlockHolder, BlockLocation, CacheState, FileId, Inode, Version, WorkerState
from isotach.net.address import Address
from isotach.wire.messages import WorkerRow


class ReadRule(msgspec.Struct, frozen=True):
    """How a client chooses who is to cache what nobody holds (see `base.placement`), and where it runs itself."""

    policy: str = "LOCAL_FIRST"
    host: str = ""
    shards: int = 1
    locality: tuple[tuple[str, str], ...] = ()
    turn: int = 0
    file_id: FileId = 0
    asker: bytes = b""  # another one in every client: those of one hot file spread over its copies


_LOCAL_FIRST = ReadRule()


def rank_workers(
    live: Sequence[WorkerRow],
    host_key: str,
    version: Version,
    cache: CacheState | None,
    length: int = 0,
    rule: ReadRule = _LOCAL_FIRST,
) -> Sequence[WorkerRow]:
    """The live workers, best first. LOCAL_FIRST: those of this host, then those that hold most of the version, then
    the nearest, then by a hash of the version, so that all clients without a better reason warm the same worker, and
    spread over workers that hold it alike. Under
    another policy: those that hold all of it, the nearest first, then by that policy, then the rest. A worker that is
    being decommissioned is asked for what it holds, and else only when there is no other."""
    if len(live) < 2:
        return live
    held = {} if cache is None else {holder.worker_id: holder.cached_bytes for holder in cache.holders}
    seed = version.to_bytes(8, "little")

    def leaves(row: WorkerRow) -> bool:
        return row.state != WorkerState.LIVE and not held.get(row.worker_id)

    if rule.policy != "LOCAL_FIRST":
        return sorted(_by_policy(live, host_key, held, length, rule, seed), key=leaves)

    def rank(row: WorkerRow) -> tuple[bool, bool, int, int, int]:
        return (
            leaves(row),
            row.host_key != host_key,
            -held.get(row.worker_id, 0),
            distance(rule.locality, row.locality),
            zlib.crc32((seed + rule.asker if row.worker_id in held else seed) + row.worker_id.encode()),
        )

    return sorted(live, key=rank)


def _by_policy(
    live: Sequence[WorkerRow], host_key: str, held: dict[str, int], length: int, rule: ReadRule, seed: bytes
) -> list[WorkerRow]:
    """Whoever holds all of it, then the policy's choice, then (where the policy names some only) all others."""
    whole = [row for row in live if 0 < length <= held.get(row.worker_id, 0)]
    mine = seed + rule.asker
    whole.sort(key=lambda row: (steps_to(row, host_key, rule.locality), zlib.crc32(mine + row.worker_id.encode())))
    chosen = in_order(
        live,
        rule.policy,
        host_key=host_key,
        locality=rule.locality,
        key=seed if rule.policy == "CAPACITY" else rule.file_id.to_bytes(8, "little"),
        turn=rule.turn,
        host=rule.host,
        shards=rule.shards,
    )
    order = dict.fromkeys(row.worker_id for row in (*whole, *chosen, *live))
    rows = {row.worker_id: row for row in live}
    return [rows[worker_id] for worker_id in order]


def is_spread(cache: CacheState | None, block_count: int) -> bool:
    """Whether the blocks lie on several workers, none of which holds them all."""
    if cache is None or block_count < 2 or len(cache.holders) < 2:
        return False
    return all(len(held_blocks(holder)) < block_count for holder in cache.holders)


def held_blocks(holder: BlockHolder) -> set[int]:
    """Numbers of the blocks that a worker holds whole."""
    return {
        byte_index * 8 + bit for byte_index, byte in enumerate(holder.blocks) for bit in range(8) if byte >> bit & 1
    }


def holders_by_block(cache: CacheState | None, block_count: int) -> list[list[str]]:
    """For each block the ids of the workers that hold all of it."""
    found: list[list[str]] = [[] for _ in range(block_count)]
    for holder in [] if cache is None else cache.holders:
        for block in held_blocks(holder):
            if block < block_count:
                found[block].append(holder.worker_id)
    return found


def block_count_of(length: int, block_size: int) -> int:
    """How many blocks a file of `length` bytes has."""
    return -(-length // block_size) if block_size > 0 else 0


def block_locations(inode: Inode, holders: Sequence[BlockHolder], workers: Sequence[WorkerRow]) -> list[BlockLocation]:
    """One record per block of the file, in order; a block that nobody holds has no workers."""
    hosts = {row.worker_id: row.host for row in workers if row.live}
    count = block_count_of(inode.length, inode.block_size)
    by_block = holders_by_block(CacheState(0, 0, list(holders)), count)
    locations = []
    for index, ids in enumerate(by_block):
        offset = index * inode.block_size
        live = [worker_id for worker_id in ids if worker_id in hosts]
        locations.append(
            BlockLocation(
                offset=offset,
                length=min(inode.block_size, inode.length - offset),
                workers=live,
                hosts=[hosts[worker_id] for worker_id in live],
            )
        )
    return locations


def worker_address(row: WorkerRow, host_key: str, short_circuit: bool) -> Address:
    """Where to reach a worker: by its Unix socket when it runs on this host and `short_circuit` allows."""
    if (
        short_circuit
        and row.local_socket
        and row.host_key == host_key
        and os.path.exists(_socket_path(row.local_socket))
    ):
        return Address.unix(_socket_path(row.local_socket))
    return Address.parse(row.address)


def local_address(local_socket: str, server_host_key: str, host_key: str) -> Address | None:
    """The Unix address of a server that told its socket, when this process can reach it."""
    if not local_socket or server_host_key != host_key:
        return None
    path = _socket_path(local_socket)
    return Address.unix(path) if os.path.exists(path) else None


def _socket_path(text: str) -> str:
    return text.removeprefix("isotach+unix://")
