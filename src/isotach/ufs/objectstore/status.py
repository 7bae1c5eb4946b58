"""An object as a file of the under storage, and its fingerprint.

Owns: what the fingerprint of an object is. The ETag where there is one: the store can check it in
the read itself.
Never: asks a store.
"""

from isotach.ufs.interface import UfsStatus
from isotach.ufs.objectstore.api import ObjectEntry

_ETAG_START = "etag:"


def fingerprint_of(entry: ObjectEntry) -> str:
    """Equal while the content is equal."""
    if entry.etag is not None:
        return _ETAG_START + entry.etag.strip('"')
    return f"stat:{entry.length}:{entry.mtime_ns}:{entry.version_id or ''}"


def etag_of(fingerprint: str | None) -> str | None:
    """The ETag to give to the store as if-match; None when the fingerprint is of another kind."""
    if fingerprint is None or not fingerprint.startswith(_ETAG_START):
        return None
    return f'"{fingerprint[len(_ETAG_START) :]}"'


def status_of(entry: ObjectEntry, path: str) -> UfsStatus:
    """The file that an object is."""
    return UfsStatus(
        path=path, is_dir=False, length=entry.length, mtime_ns=entry.mtime_ns, fingerprint=fingerprint_of(entry)
    )
