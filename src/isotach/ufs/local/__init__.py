"""The driver for folders: a local disk, or NFS and the like as the kernel mounts them."""

from isotach.ufs.local.driver import LocalUnderStorage

__all__ = ["LocalUnderStorage"]
