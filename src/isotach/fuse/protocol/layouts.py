"""How the bytes of each message lie: one `struct.Struct` per structure of include/uapi/linux/fuse.h.

Owns: the layouts, padding left out of what is packed and unpacked. Never: gives them a meaning (`requests`, `replies`).
All are little-endian, as on every machine that this runs on; `C_SIZES` says how long the kernel's structures are.
"""

from struct import Struct
from typing import Final

IN_HEADER: Final = Struct("<IIQQIIIHxx")  # len opcode unique nodeid uid gid pid total_extlen
OUT_HEADER: Final = Struct("<IiQ")  # len error unique
EXT_HEADER: Final = Struct("<II")  # size type

ATTR: Final = Struct("<QQQqqqIIIIIIIIII")  # ino size blocks a m c (s) a m c (ns) mode nlink uid gid rdev blksize flags
KSTATFS: Final = Struct("<QQQQQIII28x")  # blocks bfree bavail files ffree bsize namelen frsize
FILE_LOCK: Final = Struct("<QQII")  # start end type pid
SX_TIME: Final = Struct("<qIi")
STATX: Final = Struct("<IIQIIIH2xQQQQqI4xqI4xqI4xqI4xIIII112x")

# Requests
INIT_IN: Final = Struct("<IIII")  # major minor max_readahead flags
INIT_IN_EXT: Final = Struct("<IIIII44x")  # the same and flags2
FORGET_IN: Final = Struct("<Q")
FORGET_ONE: Final = Struct("<QQ")
BATCH_FORGET_IN: Final = Struct("<I4x")
GETATTR_IN: Final = Struct("<I4xQ")  # flags fh
STATX_IN: Final = Struct("<I4xQII")  # getattr_flags fh sx_flags sx_mask
MKNOD_IN: Final = Struct("<III4x")  # mode rdev umask
MKDIR_IN: Final = Struct("<II")  # mode umask
RENAME_IN: Final = Struct("<Q")
RENAME2_IN: Final = Struct("<QI4x")
LINK_IN: Final = Struct("<Q")
SETATTR_IN: Final = Struct("<I4xQQQqqqIIII4xII4x")
OPEN_IN: Final = Struct("<II")  # flags open_flags
CREATE_IN: Final = Struct("<IIII")  # flags mode umask open_flags
RELEASE_IN: Final = Struct("<QIIQ")  # fh flags release_flags lock_owner
FLUSH_IN: Final = Struct("<Q8xQ")  # fh lock_owner
READ_IN: Final = Struct("<QQIIQI4x")  # fh offset size read_flags lock_owner flags
WRITE_IN: Final = Struct("<QQIIQI4x")
FSYNC_IN: Final = Struct("<QI4x")
SETXATTR_IN_OLD: Final = Struct("<II")  # size flags; without SETXATTR_EXT
SETXATTR_IN: Final = Struct("<III4x")  # size flags setxattr_flags
GETXATTR_IN: Final = Struct("<I4x")
LK_IN: Final = Struct("<QQQQIII4x")  # fh owner start end type pid lk_flags
ACCESS_IN: Final = Struct("<I4x")
INTERRUPT_IN: Final = Struct("<Q")
BMAP_IN: Final = Struct("<QI4x")
IOCTL_IN: Final = Struct("<QIIQII")  # fh flags cmd arg in_size out_size
POLL_IN: Final = Struct("<QQII")  # fh kh flags events
FALLOCATE_IN: Final = Struct("<QQQI4x")  # fh offset length mode
LSEEK_IN: Final = Struct("<QQI4x")  # fh offset whence
COPY_FILE_RANGE_IN: Final = Struct("<QQQQQQQ")  # fh_in off_in nodeid_out fh_out off_out len flags
SETUPMAPPING_IN: Final = Struct("<QQQQQ")  # fh foffset len flags moffset
REMOVEMAPPING_IN: Final = Struct("<I")
REMOVEMAPPING_ONE: Final = Struct("<QQ")
NOTIFY_RETRIEVE_IN: Final = Struct("<8xQI20x")  # offset size

# Replies
INIT_OUT: Final = Struct("<IIIIHHIIHHIIH22x")
ENTRY_OUT: Final = Struct("<QQQQII")  # nodeid generation entry_valid attr_valid, ns of both; the attributes follow
ATTR_OUT: Final = Struct("<QI4x")  # attr_valid, ns; the attributes follow
STATX_OUT: Final = Struct("<QII16x")  # attr_valid, ns, flags; a statx follows
OPEN_OUT: Final = Struct("<QIi")  # fh open_flags backing_id
WRITE_OUT: Final = Struct("<I4x")
GETXATTR_OUT: Final = Struct("<I4x")
BMAP_OUT: Final = Struct("<Q")
IOCTL_OUT: Final = Struct("<iIII")  # result flags in_iovs out_iovs
POLL_OUT: Final = Struct("<I4x")
LSEEK_OUT: Final = Struct("<Q")
COPY_FILE_RANGE_OUT: Final = Struct("<Q")
DIRENT: Final = Struct("<QQII")  # ino off namelen type; the name follows, padded to 8

# Notifications
POLL_WAKEUP: Final = Struct("<Q")
INVAL_INODE: Final = Struct("<Qqq")  # ino off len
INVAL_ENTRY: Final = Struct("<QII")  # parent namelen flags
DELETE: Final = Struct("<QQI4x")  # parent child namelen
STORE: Final = Struct("<QQI4x")  # nodeid offset size
RETRIEVE: Final = Struct("<QQQI4x")  # notify_unique nodeid offset size
PRUNE: Final = Struct("<I12x")  # count; node ids follow

# Device
BACKING_MAP: Final = Struct("<iI8x")  # fd flags
UINT32: Final = Struct("<I")

#: sizeof of the kernel's structures, to hold the layouts to (a test compares them with the header of the machine too).
C_SIZES: Final = {
    "fuse_in_header": IN_HEADER,
    "fuse_out_header": OUT_HEADER,
    "fuse_ext_header": EXT_HEADER,
    "fuse_attr": ATTR,
    "fuse_kstatfs": KSTATFS,
    "fuse_file_lock": FILE_LOCK,
    "fuse_sx_time": SX_TIME,
    "fuse_statx": STATX,
    "fuse_init_in": INIT_IN_EXT,
    "fuse_forget_in": FORGET_IN,
    "fuse_forget_one": FORGET_ONE,
    "fuse_batch_forget_in": BATCH_FORGET_IN,
    "fuse_getattr_in": GETATTR_IN,
    "fuse_statx_in": STATX_IN,
    "fuse_mknod_in": MKNOD_IN,
    "fuse_mkdir_in": MKDIR_IN,
    "fuse_rename_in": RENAME_IN,
    "fuse_rename2_in": RENAME2_IN,
    "fuse_link_in": LINK_IN,
    "fuse_setattr_in": SETATTR_IN,
    "fuse_open_in": OPEN_IN,
    "fuse_create_in": CREATE_IN,
    "fuse_release_in": RELEASE_IN,
    "fuse_flush_in": FLUSH_IN,
    "fuse_read_in": READ_IN,
    "fuse_write_in": WRITE_IN,
    "fuse_fsync_in": FSYNC_IN,
    "fuse_setxattr_in": SETXATTR_IN,
    "fuse_getxattr_in": GETXATTR_IN,
    "fuse_lk_in": LK_IN,
    "fuse_access_in": ACCESS_IN,
    "fuse_interrupt_in": INTERRUPT_IN,
    "fuse_bmap_in": BMAP_IN,
    "fuse_ioctl_in": IOCTL_IN,
    "fuse_poll_in": POLL_IN,
    "fuse_fallocate_in": FALLOCATE_IN,
    "fuse_lseek_in": LSEEK_IN,
    "fuse_copy_file_range_in": COPY_FILE_RANGE_IN,
    "fuse_setupmapping_in": SETUPMAPPING_IN,
    "fuse_removemapping_in": REMOVEMAPPING_IN,
    "fuse_removemapping_one": REMOVEMAPPING_ONE,
    "fuse_notify_retrieve_in": NOTIFY_RETRIEVE_IN,
    "fuse_init_out": INIT_OUT,
    "fuse_open_out": OPEN_OUT,
    "fuse_write_out": WRITE_OUT,
    "fuse_getxattr_out": GETXATTR_OUT,
    "fuse_bmap_out": BMAP_OUT,
    "fuse_ioctl_out": IOCTL_OUT,
    "fuse_poll_out": POLL_OUT,
    "fuse_lseek_out": LSEEK_OUT,
    "fuse_copy_file_range_out": COPY_FILE_RANGE_OUT,
    "fuse_dirent": DIRENT,
    "fuse_notify_poll_wakeup_out": POLL_WAKEUP,
    "fuse_notify_inval_inode_out": INVAL_INODE,
    "fuse_notify_inval_entry_out": INVAL_ENTRY,
    "fuse_notify_delete_out": DELETE,
    "fuse_notify_store_out": STORE,
    "fuse_notify_retrieve_out": RETRIEVE,
    "fuse_notify_prune_out": PRUNE,
    "fuse_backing_map": BACKING_MAP,
}
