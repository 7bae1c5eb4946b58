"""The wire: frames, messages and the session machine. Pure: bytes in, events out; no socket, no clock."""
