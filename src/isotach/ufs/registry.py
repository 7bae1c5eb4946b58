"""From a URI and options to an under storage that is ready for use.

Owns: which driver serves which scheme, and the wrapper around it. Never: sends anything (`check` does, when asked to).
"""

from collections.abc import Mapping

from isotach.ufs.interface import UnderStorage
from isotach.ufs.local import LocalUnderStorage
from isotach.ufs.objectstore import open_object_store
from isotach.ufs.read_only import ReadOnlyUnderStorage
from isotach.ufs.retry import RetryingUnderStorage
from isotach.ufs.uri import Scheme, parse_options, parse_uri


def open_under_storage(uri: str, options: Mapping[str, str], read_only: bool = False) -> UnderStorage:
    """The under storage at `uri`, with retries; with `read_only` every change raises OSError(EROFS).

    Raises InvalidArgumentError for a URI or options that are wrong by themselves. Talks to nobody: call `check`.
    """
    location = parse_uri(uri)
    checked = parse_options(location.scheme, options)
    driver: UnderStorage
    driver = (
        LocalUnderStorage(location.prefix) if location.scheme is Scheme.FILE else open_object_store(location, checked)
    )
    storage = RetryingUnderStorage(driver)
    return ReadOnlyUnderStorage(storage) if read_only else storage
