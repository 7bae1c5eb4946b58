"""Names, attributes, directories and extended attributes of a mount.

Owns: what the kernel is told of entries of the namespace, and the changes that it asks for. Never: touches bytes of
files (`fuse.files`, `fuse.writing`), or knows how requests reach it (`fuse.session`).
"""
