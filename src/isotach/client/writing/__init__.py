"""Writing files: create at the master, bytes to a worker (or several), commit.

Owns: where each block goes, what is held back so that a small file costs one call, and when a write is given up. Never:
makes anything visible by halves: a file appears when its commit succeeds, whole.
"""
