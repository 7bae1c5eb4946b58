"""Writing a whole file whose bytes are at hand.

Owns: writing it anew, as another version, when a worker was lost on the way. Never: leaves a half written file.
"""

from isotach.base.errors import UnavailableError
from isotach.client.link import Link
from isotach.client.patience import Patience
from isotach.client.writing.creating import WriteOptions
from isotach.client.writing.version_writer import NoWorkerError, VersionWriter


def write_file(link: Link, path: bytes, data: memoryview, options: WriteOptions) -> None:
    """Raises what forbids the write, UnavailableError when no worker could take it in time."""
    patience: Patience | None = None
    while True:
        writer = VersionWriter(link, path, options)
        try:
            writer.write(data)
            writer.commit()
            return
        except NoWorkerError:
            raise
        except UnavailableError as problem:
            patience = patience or Patience(link.settings.retry_total)
            patience.pause_or_raise(problem)
        finally:
            writer.abort()
