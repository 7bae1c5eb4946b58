"""What POSIX promises of a folder, checked on tmpfs and on a mount alike.

Owns: nothing. Never: holds code.
"""
