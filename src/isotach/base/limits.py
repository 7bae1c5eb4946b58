"""Every bound in one place: sizes, counts, queues, retries and time-outs, with units in the names.

Owns: the numbers. Never: reads configuration (a user-settable default lives in `conf`).
"""

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

# Namespace
PATH_BYTES_MAX: Final = 4096
NAME_BYTES_MAX: Final = 255
PATH_DEPTH_MAX: Final = 1024
XATTR_BYTES_MAX: Final = 64 * KIB
XATTR_COUNT_MAX: Final = 64
MOUNTS_MAX: Final = 1024
LIST_PAGE_ENTRIES: Final = 5_000
LIST_PAGE_ENTRIES_MAX: Final = 20_000
ABSENT_PATHS_MAX: Final = 100_000
ABSENT_PATH_TTL_S: Final = 30.0

# Blocks and pages
PAGE_BYTES: Final = MIB
BLOCK_BYTES_DEFAULT: Final = 64 * MIB
BLOCK_BYTES_MAX: Final = 4 * GIB
PAGES_PER_INDEX_CHUNK: Final = 64

# Wire
HEADER_BYTES: Final = 24
META_BYTES_MAX: Final = 4 * MIB
PAYLOAD_BYTES_MAX: Final = 64 * MIB
CALLS_IN_FLIGHT_MAX: Final = 4096
HANDSHAKE_TIMEOUT_S: Final = 10.0
CALL_DEADLINE_S: Final = 30.0
LONG_CALL_DEADLINE_S: Final = 3600.0
CONNECTIONS_MAX: Final = 4096
DATA_CONNECTIONS_MAX: Final = 1024
SOCKET_BUFFER_BYTES: Final = 4 * MIB
RETRY_ATTEMPTS_MAX: Final = 8
RETRY_BASE_S: Final = 0.05
RETRY_MAX_S: Final = 3.0
RETRY_TOTAL_S: Final = 30.0

# Master
BATCH_MUTATIONS_MAX: Final = 4096
BATCH_BYTES_MAX: Final = 16 * MIB
BATCHES_IN_FLIGHT_MAX: Final = 4
RECLAIM_SLICE_ENTRIES: Final = 500
ID_RESERVE: Final = 1 << 20
COMMANDS_QUEUED_MAX: Final = 10_000
GRANT_LIFETIME_S: Final = 3600.0
PENDING_WRITES_MAX: Final = 100_000

# Worker
FETCH_BYTES: Final = 8 * MIB
FETCH_THREADS: Final = 16
READ_AHEAD_BYTES_MAX: Final = 64 * MIB
STREAM_CHUNK_BYTES: Final = 4 * MIB
WRITE_CHUNK_BYTES: Final = 4 * MIB
OPEN_HANDLES_PER_CONNECTION_MAX: Final = 4096
PERSIST_THREADS: Final = 4
REPORT_VERSIONS_MAX: Final = 1_000

# Under storage
UFS_LIST_PAGE_ENTRIES: Final = 1_000
UFS_THREADS: Final = 16
UFS_PART_BYTES: Final = 8 * MIB
UFS_RETRY_ATTEMPTS_MAX: Final = 4
UFS_CONNECT_TIMEOUT_S: Final = 5.0
UFS_MOUNT_CHECK_TIMEOUT_S: Final = 9.0
