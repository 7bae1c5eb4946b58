"""What the kernel wants of a mount: the device, backing files, notifications, mounting, and what it can do at all.

Owns: system calls. Never: knows the namespace.
"""
