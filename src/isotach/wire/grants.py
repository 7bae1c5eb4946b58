"""Sealed capabilities: what a client may read or write at a worker, signed by the master under the cluster secret.

Owns: the seal (keyed BLAKE2b, 16 bytes, over a kind byte and the msgpack body). Never: decides who gets one (the
master does) or keeps the secret.

A worker trusts a grant, not its bearer: a client that never passed the permission check cannot name a version or an
under-storage path to it. This is the data-path authorization that the field sells as an enterprise feature.
"""

import hashlib
import hmac
from typing import Final, TypeVar

import msgspec

from isotach.base.errors import AuthenticationError
from isotach.wire.messages import ReadGrant, WriteGrant

_SEAL_BYTES: Final = 16
_KINDS: Final[dict[type, bytes]] = {ReadGrant: b"R", WriteGrant: b"W"}
_encoder = msgspec.msgpack.Encoder()
_decoders: Final[dict[type, msgspec.msgpack.Decoder[ReadGrant | WriteGrant]]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in _KINDS
}
G = TypeVar("G", ReadGrant, WriteGrant)


def seal(secret: bytes, grant: ReadGrant | WriteGrant) -> bytes:
    """The grant as clients carry it. `secret` is 16 to 64 bytes."""
    body = _KINDS[type(grant)] + _encoder.encode(grant)
    return hashlib.blake2b(body, key=secret, digest_size=_SEAL_BYTES).digest() + body


def unseal(secret: bytes, sealed: bytes, kind: type[G], now_s: float) -> G:
    """The grant inside. Raises AuthenticationError when it was not sealed under this secret, is of another kind, or
    has expired (look the path up again for a new one)."""
    digest, body = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    expected = hashlib.blake2b(body, key=secret, digest_size=_SEAL_BYTES).digest()
    if not hmac.compare_digest(digest, expected) or body[:1] != _KINDS[kind]:
        raise AuthenticationError("the capability is not one of this cluster: look the path up again")
    grant = _decoders[kind].decode(body[1:])
    if grant.expires_s < now_s:
        raise AuthenticationError("the capability has expired: look the path up again")
    assert isinstance(grant, kind)
    return grant


def prove(secret: bytes, *parts: bytes) -> bytes:
    """Shows knowledge of the cluster secret over these words, without sending it."""
    joined = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return hashlib.blake2b(joined, key=secret, digest_size=_SEAL_BYTES).digest()


def check_proof(secret: bytes, proof: bytes, *parts: bytes) -> None:
    """Raises AuthenticationError when `proof` was not made by `prove` under this secret."""
    if not hmac.compare_digest(proof, prove(secret, *parts)):
        raise AuthenticationError("the peer does not know the cluster secret: give both sides the same secret file")
