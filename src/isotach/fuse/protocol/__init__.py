"""The kernel's FUSE protocol as pure functions: bytes to records, records to bytes, ABI 7.31 to 7.45.

Owns: numbers, layouts, decoding, encoding, negotiation. Never: touches a descriptor, a thread or a clock.
"""
