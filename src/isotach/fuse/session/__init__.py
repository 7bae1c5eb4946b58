"""The session of one mount: threads that read requests, hand them to handlers, and send what comes back.

Owns: threads, queues, interruptions. Never: knows what a name or a file is (handlers do).
"""

from isotach.fuse.session.loop import Session

__all__ = ["Session"]
