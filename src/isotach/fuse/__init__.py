"""The namespace as a folder: a daemon that speaks the kernel's FUSE protocol itself, with passthrough for hot files.

Owns: everything between /dev/fuse and the client library. Never: decides what a name means, or stores a byte (master
and workers do). `protocol` is pure; `kernel` and `session` talk to the device; `tree`, `files`, `writing` and the
modules beside them are the file system; `contract` says what they want of one another.
"""
