"""Files being written through the mount: where their bytes lie meanwhile, and how they become a new version.

Owns: everything between a WRITE of the kernel and the version that other machines see. Never: talks to the kernel, or
knows names (a file is its id, wherever it is by then).
"""
