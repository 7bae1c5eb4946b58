"""What a sealed read capability says of a file: made in one place for readers, loads and persistence.

Owns: filling `ReadGrant` from an inode. Never: checks a permission (its callers did) or seals.
"""

from typing import Final

from isotach.base.limits import GRANT_LIFETIME_S
from isotach.base.types import Flag, Inode
from isotach.namespace.lookup import Resolved
from isotach.wire.messages import ReadGrant

# Plain numbers: `&` with an enum makes an enum, which took more time than all the rest here.
_PERSISTED: Final = int(Flag.PERSISTED)
_PINNED: Final = int(Flag.PINNED)


def read_grant(found: Resolved, now_s: float, user: str = "") -> ReadGrant:
    """The capability to read the file as it stands. `now_s`: wall clock, since the epoch."""
    ufs_path = None if found.mount is None else found.relative
    return read_grant_of(found.inode, ufs_path, now_s, user)


def read_grant_of(inode: Inode, ufs_path: bytes | None, now_s: float, user: str = "") -> ReadGrant:
    """The same, of an inode whose under-storage path is known (None: it has none)."""
    policy = inode.policy
    return ReadGrant(
        version=inode.version,
        file_id=inode.id,
        length=inode.length,
        block_size=inode.block_size,
        mount_id=inode.mount_id,
        ufs_path=ufs_path if inode.flags & _PERSISTED else None,
        fingerprint=inode.fingerprint,
        pinned=bool(inode.flags & _PINNED),
        expires_s=int(now_s + GRANT_LIFETIME_S),
        user=user,
        tier="" if policy is None else policy.tier,
        memory_only=policy is not None and policy.memory_only,
    )
