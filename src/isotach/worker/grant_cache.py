"""Unsealed capabilities, remembered: a client that opens a file again pays no signature.

Owns: the bounded cache. Never: accepts an expired grant, remembered or not.
"""

import time
from collections.abc import Callable
from typing import Final

from isotach.base.errors import AuthenticationError
from isotach.base.limits import GRANTS_CACHED_MAX
from isotach.wire.grants import unseal
from isotach.wire.messages import ReadGrant, WriteGrant


class GrantCache:
    """One per worker; any thread. `secret` is the cluster's, `now_s` the wall clock."""

    def __init__(self, secret: bytes, now_s: Callable[[], float] = time.time) -> None:
        self._secret: Final = secret
        self._now_s: Final = now_s
        self._reads: dict[bytes, ReadGrant] = {}

    def read(self, sealed: bytes) -> ReadGrant:
        """What may be read. Raises AuthenticationError for a forged or expired capability."""
        grant = self._reads.get(sealed)
        if grant is None:
            grant = unseal(self._secret, sealed, ReadGrant, self._now_s())
            if len(self._reads) >= GRANTS_CACHED_MAX:
                self._reads = {}  # simple and rare: the live ones come back with their next use
            self._reads[sealed] = grant
        elif grant.expires_s < self._now_s():
            self._reads.pop(sealed, None)
            raise AuthenticationError("the capability has expired: look the path up again")
        return grant

    def write(self, sealed: bytes) -> WriteGrant:
        """What may be written. Raises AuthenticationError. Each is used once or twice: not remembered."""
        return unseal(self._secret, sealed, WriteGrant, self._now_s())
