"""The open files of a mount: who has what open in which mode, and where the bytes of a read come from.

Owns: OPEN, READ, RELEASE and what else is asked of an open file, passthrough, readers of files that are not whole here.
Never: names and attributes (`tree`), the contents of files being written (`writing`), the wire (`protocol`).
"""
