"""What all messages have in common: msgpack arrays whose fields are only ever appended, so that an older peer ignores
what it does not know and a newer one sees the defaults.

Owns: the base class and the message without fields. Never: knows a call.
"""

import msgspec


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The base of all messages."""


class Empty(Message, frozen=True):
    """No fields: a request without arguments, or a reply that says only that it is done."""
