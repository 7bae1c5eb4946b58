"""A bound on calls that know none of their own: name resolution, a hung NFS server.

Owns: giving up waiting. Never: stops the call itself, which goes on in a daemon thread until the system lets it go.
"""

import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future

from isotach.base.errors import UfsUnreachableError


def run_within(timeout_s: float, uri: str, call: Callable[[], None]) -> None:
    """Runs `call`, raising what it raises, or UfsUnreachableError (naming `uri`) after `timeout_s` seconds."""
    answer: Future[None] = Future()

    def run() -> None:
        try:
            call()
        except BaseException as error:  # handed over to the caller, whatever it is
            answer.set_exception(error)
        else:
            answer.set_result(None)

    threading.Thread(target=run, name="ufs-deadline", daemon=True).start()
    try:
        answer.result(timeout_s)
    except TimeoutError:
        if answer.done():
            raise
        message = f"no answer within {timeout_s:g} s: check the endpoint, the name and the network"
        raise UfsUnreachableError(errno.EIO, message, uri) from None
