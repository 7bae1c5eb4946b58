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
#: Symbolic links followed in one path, as Linux has it.
SYMLINKS_FOLLOWED_MAX: Final = 40
#: Bytes of a symbolic link's target, at most.
SYMLINK_BYTES_MAX: Final = 4095
#: Names that lead to one file, at most.
HARD_LINKS_MAX: Final = 65_000
#: How long a file made empty waits for content before it is persisted as an empty one.
EMPTY_PERSIST_DELAY_S: Final = 5.0
MOUNTS_MAX: Final = 1024
LIST_PAGE_ENTRIES: Final = 5_000
LIST_PAGE_ENTRIES_MAX: Final = 20_000
LIST_PAGE_BYTES_MAX: Final = 16 * MIB
DIRECTORIES_REMEMBERED_MAX: Final = 20_000
ACTORS_REMEMBERED_MAX: Final = 64
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
FIRST_CONNECT_TOTAL_S: Final = 3.0
CONNECT_TIMEOUT_S: Final = 5.0
CONNECTIONS_PER_CHANNEL_MAX: Final = 64
RECEIVE_BUFFER_BYTES: Final = 16 * KIB
INLINE_PAYLOAD_BYTES_MAX: Final = 64 * KIB
DATA_STALL_TIMEOUT_S: Final = 30.0
REFUSAL_LINGER_S: Final = 1.0
REFUSED_KEPT_MAX: Final = 16
LISTEN_BACKLOG: Final = 1024
UNIX_PATH_BYTES_MAX: Final = 107
PEER_GROUPS_TTL_S: Final = 60.0
PEER_GROUPS_CACHED_MAX: Final = 1024
#: Seconds without an answer of the other machine's kernel after which a TCP connection counts as broken.
TCP_SILENCE_S: Final = 6
#: How long a client waits for a worker's bytes before it asks the master whether that worker still lives.
SILENCE_S: Final = 3.0

# Master
BATCH_MUTATIONS_MAX: Final = 4096
BATCH_BYTES_MAX: Final = 16 * MIB
BATCHES_IN_FLIGHT_MAX: Final = 4
RECLAIM_SLICE_ENTRIES: Final = 500
SYNC_SWEEP_ENTRIES: Final = 4_000
SYNC_TREE_CHECK_ENTRIES: Final = 4_000
ID_RESERVE: Final = 1 << 20
COMMANDS_QUEUED_MAX: Final = 10_000
GRANT_LIFETIME_S: Final = 3600.0
PENDING_WRITES_MAX: Final = 100_000
COMMANDS_PER_POLL_MAX: Final = 256
COMMAND_RESEND_S: Final = 30.0
COMMIT_LEASE_S: Final = 60.0
COMMIT_RECOVERY_LEASE_S: Final = 5.0
COMMIT_RENEW_S: Final = 1.5  # twice in a recovery lease, at least
SNAPSHOT_RENEW_S: Final = 1.0
STALE_READERS_CHECK_S: Final = 30.0
LOCATION_SLICE_ROWS: Final = 1_000
WALK_SLICE_ENTRIES: Final = 500
SYNC_TIMES_MAX: Final = 100_000
PERSISTS_IN_FLIGHT_MAX: Final = 64
PERSIST_TIMEOUT_S: Final = 600.0
#: A large file may take longer: a store that is slower than this is taken to hang.
PERSIST_BYTES_PER_S_MIN: Final = MIB
PERSISTS_PER_MOUNT_MAX: Final = 16
#: Failures of a store in a row before it is only probed, and the longest pause between two probes.
PERSIST_FAILURES_MAX: Final = 3
PERSIST_PROBE_S_MAX: Final = 30.0
#: How long a write waits for a store to tell whether it has a file of that name.
LEARN_WAIT_S: Final = 5.0
PERSIST_TICKETS_MAX: Final = 256
PERSIST_ERRORS_TOLD_MAX: Final = 10
PERSIST_FAILING_NOTED_MAX: Final = 1_000
LATE_COMMITS_NOTED_MAX: Final = 1_024
FREE_WAIT_S: Final = 10.0
REPLICATIONS_IN_FLIGHT_MAX: Final = 16
REPLICATIONS_WAITING_MAX: Final = 100_000
REPLICATION_TIMEOUT_S: Final = 600.0
REPLICATION_PAUSE_S: Final = 0.1
REPLICATION_RETRY_S: Final = 1.0
REPLICATION_RETRY_S_MAX: Final = 60.0
REPLICATION_SWEEP_S: Final = 60.0
REPLICATION_SLICE_ROWS: Final = 1_000
LOST_SLICE_ROWS: Final = 2_000
LOST_MARKS_PER_CHANGE: Final = 200
LOST_PAGE_FILES_MAX: Final = 1_000
LEAVERS_CHECK_S: Final = 1.0
HOT_COPIES_MAX: Final = 8
READER_RESTART_S_MAX: Final = 5.0
REPLICAS_MAX: Final = 64
FREE_SLICE_FILES: Final = 2_000
EXPIRY_SLICE: Final = 500
EXPIRIES_IN_FLIGHT_MAX: Final = 32
EXPIRY_RETRY_S: Final = 10.0  # after an action that failed, or that waits for a file to be persisted
EXPIRY_BUSY_RETRY_S: Final = 3600.0  # of what has a mount inside by now
#: How long a call waits for another operation on its path: less than CALL_DEADLINE_S, so that it is told what it met.
PATH_WAIT_S: Final = 20.0
RECOVERY_RETRY_S: Final = 0.25  # the first pause before an unclear change of a store is tried again; it doubles
RECOVERY_RETRY_S_MAX: Final = 10.0
RECOVERY_REFUSALS_MAX: Final = 8  # answers that are no "later", before what was begun is given up
JOBS_RUNNING_MAX: Final = 4
JOBS_WAITING_MAX: Final = 1_000
JOBS_KEPT_MAX: Final = 1_000  # records of jobs that have ended
JOBS_ENDED_IN_MEMORY_MAX: Final = 16
JOB_WAIT_MS_MAX: Final = 20_000
JOB_SAVE_S: Final = 2.0
JOB_POLL_S: Final = 0.3  # between looks of who waits for a job
JOB_FAILURES_KEPT_MAX: Final = 100  # by name; all are counted
JOB_FAILURES_IN_A_ROW_MAX: Final = 1_000
JOB_FILES_KEPT_MAX: Final = 20_000  # done files, for who follows a job
JOB_PERSISTS_AHEAD_MAX: Final = 1_000
JOB_RECHECKS_MAX: Final = 8
JOB_RETRIES_WAITING_MAX: Final = 1_000
LOADS_PER_WORKER_MAX: Final = 256
LOAD_CAPACITY_SHARE: Final = 0.9  # of a worker's tiers that one job may fill
LOAD_ATTEMPTS_MAX: Final = 3
LOAD_MOVES_MAX: Final = 16  # of one file from a worker that is lost to another
LOAD_COMMAND_TIMEOUT_S: Final = 900.0
LOAD_WORKERS_AWAITED_S: Final = 60.0
LOAD_CHECK_WAIT_S: Final = 5.0
LOAD_CHECK_PAUSE_S: Final = 0.1

# The feed of changes (master)
#: Changes that are remembered, and their bytes: a mount that was away longer drops all that it had cached.
CHANGES_KEPT_MAX: Final = 65_536
CHANGE_BYTES_KEPT_MAX: Final = 32 * MIB
CHANGES_PER_REPLY_MAX: Final = 4_096
CHANGES_REPLY_BYTES_MAX: Final = 2 * MIB
CHANGES_WAIT_MS_MAX: Final = 20_000
#: Those who wait are woken so long after a change, and at most this often.
CHANGES_GATHER_S: Final = 0.003
#: With nobody asking for so long, changes are not noted any more.
CHANGES_IDLE_S: Final = 60.0

# Locks of programs (master)
LOCKS_MAX: Final = 200_000
LOCKS_PER_SESSION_MAX: Final = 16_384
LOCK_WAITERS_MAX: Final = 10_000
LOCK_SESSIONS_MAX: Final = 4_096
#: A session's locks go when it has been silent for so long.
LOCK_LEASE_S: Final = 10.0
LOCK_LEASES_CHECK_S: Final = 1.0
#: How long a restarted master waits for the sessions that held locks, before it gives out any.
LOCK_GRACE_S: Final = 6.0
LOCK_WAIT_MS_MAX: Final = 10_000
#: How long a request keeps its place in the queue until it is made again.
LOCK_PLACE_S: Final = 0.5
#: Mounts that use locks, summed over the files on which they do.
LOCK_USERS_MAX: Final = 200_000
#: Sessions whose lease ended, and of whose locks it is known which were given to others since.
LOCK_LAPSES_KEPT_MAX: Final = 256

# Worker
FETCH_BYTES: Final = 8 * MIB
FETCH_THREADS: Final = 16
FETCH_PIECE_BYTES: Final = 256 * KIB  # of one receive: stays in a core's cache until it is written
READ_AHEAD_BYTES_MAX: Final = 64 * MIB
STREAM_CHUNK_BYTES: Final = 4 * MIB
WRITE_CHUNK_BYTES: Final = 4 * MIB
OPEN_HANDLES_PER_CONNECTION_MAX: Final = 4096
PERSIST_THREADS: Final = 4
PERSIST_LANES: Final = 16  # pools of so many threads in a worker: a mount has one of them, by its number
REPORT_VERSIONS_MAX: Final = 2_000
REPORT_BYTES_MAX: Final = 2 * MIB
TIER_RESERVE_BYTES: Final = 64 * MIB
GRANTS_CACHED_MAX: Final = 16_384
READ_STREAMS_PER_VERSION_MAX: Final = 16
READ_STREAM_VERSIONS_MAX: Final = 4_096
HEAT_VERSIONS_MAX: Final = 16_384
#: A version that clients of other hosts open this often within the window is hot.
HOT_OPENS: Final = 200
HOT_WINDOW_S: Final = 10.0
HOT_TOLD_MAX: Final = 16
REPORT_WAIT_S: Final = 1.0
THROUGH_QUEUE_CHUNKS: Final = 4
COMMIT_RETRY_S: Final = 60.0
LEFTOVERS_RETRY_S: Final = 30.0
FETCH_POOLS_MAX: Final = 4  # threads for so many mounts at once, each with `worker.fetch_threads`
BUFFER_BYTES: Final = 512 * MIB
BUFFER_FETCH_SHARE: Final = 0.5  # of the buffer memory: fetched bytes that wait for readers
BUFFER_WRITE_SHARE: Final = 0.25  # ... received bytes that wait for a tier or an under storage
BUFFER_AHEAD_SHARE: Final = 0.25  # ... beyond which nothing is read ahead
PASSING_PIECE_BYTES: Final = 256 * KIB  # in each reader's hand when the buffer memory is used up
OPEN_FETCH_BYTES_MAX: Final = MIB  # a file up to this size is fetched while it is being opened
OPEN_FETCH_PATIENCE_S: Final = 1.0
SCRUB_BANDWIDTH: Final = 50 * MIB
SCRUB_INTERVAL_S: Final = 7 * 86_400.0
SCRUB_RATE_MIN: Final = 256 * KIB  # bytes per second: a small cache is done long before its interval ends
SCRUB_START_S: Final = 60.0  # after the worker, and between rounds at least
SCRUB_SAVE_S: Final = 5.0
DETOUR_ENTER: Final = 2.0  # a tier that takes so many times as long as the store is read around
DETOUR_LEAVE: Final = 1.2
DETOUR_SLOW_BYTES_PER_S: Final = 100 * MIB  # a tier that is quicker is never read around
DETOUR_SAMPLES_MIN: Final = 8
DETOUR_SAMPLE_BYTES_MIN: Final = 64 * KIB
DETOUR_PROBE_S: Final = 0.25  # one read of a tier in so long is timed
DETOUR_RETRY_S: Final = 2.0  # ... and while it is read around
REPORT_GATHER_S: Final = 0.02  # changes that follow one another this closely are told together
REPORT_WAIT_SHARE: Final = 0.03  # of the time may be spent waiting until the master knows what has been read
REPORT_WAIT_BURST_S: Final = 0.03
PEER_CONNECT_S: Final = 0.5
PEER_WAIT_S: Final = 0.5  # for the first byte of another worker's copy
PEER_SLOWEST_BYTES_PER_S: Final = 8 * MIB  # a copy that comes slower is left for the under storage
PEER_PAUSE_S: Final = 5.0  # a worker that failed is left alone for so long
PEER_ROWS_AGE_S: Final = 2.0
PEERS_TRIED_MAX: Final = 2
SHARED_TABLES_MAX: Final = 16
LOAD_THREADS: Final = 16  # at most
LOAD_THREADS_MIN: Final = 4
LOAD_THREADS_LOOK_S: Final = 0.25  # how often it is asked how many are of use
LOAD_PACES_MAX: Final = 64
RESULTS_GATHER_S: Final = 0.03  # outcomes of loads that follow one another this closely are told together
RESULTS_GATHERED_MAX: Final = 128
POLL_WAIT_MS: Final = 10_000

# Drafts of mounts (worker)
DRAFT_SESSIONS_MAX: Final = 256
DRAFTS_PER_SESSION_MAX: Final = 16_384
#: How long a session whose connection ended, or whose worker was started anew, waits to be taken over.
DRAFT_TAKE_OVER_S: Final = 5.0
#: The pause before a synced draft that nobody came back for is tried again, while the master or the tier cannot.
DRAFT_SALVAGE_RETRY_S: Final = 5.0
DRAFT_OUTCOMES_KEPT_MAX: Final = 1_024  # of one session, for calls that are sent again
#: The longest file that is written through a mount: its checksums, one row for each 64 MiB, go in with one commit.
DRAFT_BYTES_MAX: Final = 4 * 1024 * GIB

# Under storage
UFS_LIST_PAGE_ENTRIES: Final = 1_000
UFS_THREADS: Final = 16
UFS_DELETE_ROUNDS_MAX: Final = 8
UFS_PART_BYTES: Final = 8 * MIB
UFS_RETRY_ATTEMPTS_MAX: Final = 4
UFS_CONNECT_TIMEOUT_S: Final = 5.0
UFS_MOUNT_CHECK_TIMEOUT_S: Final = 9.0
UFS_REQUEST_TIMEOUT_S: Final = 60.0
UFS_PARTS_IN_FLIGHT_MAX: Final = 4
UFS_PART_BUFFERS_KEPT_MAX: Final = 6  # of UFS_PART_BYTES each, by one mount
UFS_PARTS_MAX: Final = 10_000
UFS_PARTS_BEFORE_GROWTH: Final = 1_000
UFS_SINGLE_COPY_BYTES_MAX: Final = 5 * GIB
UFS_KEY_BYTES_MAX: Final = 1024
UFS_REQUESTS_PER_MOUNT: Final = 64
UFS_SMALL_GET_BYTES_MAX: Final = MIB
UFS_REQUESTS_MAX: Final = 4_096
PACE_BURST_S: Final = 0.1  # of a bandwidth's worth may pass at once after a pause

# Key-value store
KV_READERS_MAX: Final = 512
KV_SPARE_TRANSACTIONS: Final = 16
KV_COMMIT_SLACK_BYTES: Final = 4 * MIB
#: How long a busy thread may keep the interpreter from the writer thread that just finished a commit.
SWITCH_INTERVAL_S: Final = 0.0005

#: How many versions that were read beside the worker one search for room passes over, at most.
SECOND_CHANCES_MAX: Final = 1024

# Moves between tiers
#: How often folders are looked at (and failed ones tried again), and how often the mover looks when nobody wakes it.
FOLDER_CHECK_S: Final = 5.0
MOVER_INTERVAL_S: Final = 1.0
#: Rows deleted in one commit when a folder that another cluster left is emptied.
INDEX_REMOVAL_ROWS: Final = 16_384
MOVE_PIECE_BYTES: Final = 8 * MIB
MOVE_BATCH_VERSIONS: Final = 64
MOVE_BATCH_BYTES: Final = 64 * MIB
#: How many candidates one search for what may move down looks at while it holds the store's lock.
MOVE_SEARCH_VERSIONS: Final = 4_096
#: A version of a lower tier climbs when it is used this often within the window, the uses this far apart at least.
PROMOTE_TOUCHES: Final = 2
PROMOTE_WINDOW_S: Final = 60.0
PROMOTE_GAP_S: Final = 0.2
PROMOTE_NOTES_MAX: Final = 16_384
#: What may climb into a tier that is full (so that others must leave it) in one round, as a share of that tier.
PROMOTE_SHARE_PER_ROUND: Final = 0.05
#: How many versions of lower tiers are looked at in one round, for uses by readers beside the worker.
READS_BESIDE_PER_ROUND: Final = 512
#: A container from this size on is removed by the mover, not by whoever drops the version.
LARGE_REMOVAL_BYTES: Final = 64 * MIB
#: What a load brought in makes room last for so long, for at most so many versions.
LOADED_KEPT_S: Final = 600.0
LOADED_KEPT_MAX: Final = 1_000_000
#: How many versions found at start the eviction policies are told of at once, and the pause before the next.
ORDER_SLICE_VERSIONS: Final = 500
ORDER_PAUSE_S: Final = 0.01
#: The same while somebody waits for room.
ORDER_AT_ONCE_VERSIONS: Final = 5_000
#: Dirty bytes of a file being written to a disk tier that the kernel may hold back, in windows of half of it.
WRITE_BACK_BYTES: Final = 32 * MIB
SCRUB_SLICE_VERSIONS: Final = 256

# Eviction policies
#: Evicted versions that one policy remembers, however small they were.
EVICTION_GHOSTS_MAX: Final = 200_000
#: Uses that a policy keeps until the store's lock is next taken; beyond, the oldest are forgotten.
EVICTION_TOUCHES_MAX: Final = 2_048
#: Versions that the shadow caches, by which policies are compared, follow at once, about.
EVICTION_SHADOW_VERSIONS: Final = 1_024
#: Counters of the frequency sketch, at least and at most: a byte each.
EVICTION_SKETCH_BYTES_MIN: Final = 16 * KIB
EVICTION_SKETCH_BYTES_MAX: Final = 16 * MIB

# Client
#: How long a client goes the ordinary way after it found the server's files unreadable or replaced.
DIRECT_PAUSE_S: Final = 1.0
#: How long a mount takes the server's files for the present ones after it looked.
DIRECT_LOOK_S: Final = 0.02
WORKER_TABLE_AGE_S: Final = 2.0
WORKER_CONNECTIONS_MAX: Final = 512
#: Opening a cached version is quick: a worker that needs longer is passed over where another can serve.
OPEN_DEADLINE_S: Final = 5.0
#: How long a client waits for a first worker: a master that just restarted hears from them within a heartbeat.
WORKERS_AWAITED_S: Final = 3.0
LOCAL_BUFFER_BYTES: Final = 64 * KIB
REMOTE_BUFFER_BYTES: Final = 256 * KIB
STREAM_WINDOW_BYTES_MAX: Final = 16 * MIB
STREAM_SKIP_BYTES_MAX: Final = MIB
PUT_BYTES_MAX: Final = 4 * MIB
WRITES_IN_FLIGHT_MAX: Final = 4
DATA_CALL_DEADLINE_S: Final = 300.0
CLIENT_DATA_THREADS: Final = 32
LOADS_IN_FLIGHT_MAX: Final = 8

# Mounts (FUSE)
#: How often a mount that has locks says that it lives, and how long one question to the master waits for a lock: a
#: program that waits is interrupted within so long.
LOCK_SIGN_S: Final = 1.0
LOCK_WAIT_MS: Final = 250
#: A mount without locks for so long is no session any more.
LOCK_IDLE_S: Final = 60.0
#: How long a mount that ends tries to say so.
LOCK_GOODBYE_S: Final = 1.0
#: The page of the kernel's messages, and the room for headers beside the bytes of a write.
FUSE_PAGE_BYTES: Final = 4096
#: Requests that wait in one pool, and the bytes of their bodies: beyond that the kernel waits.
FUSE_POOL_QUEUE_MAX: Final = 8_192
FUSE_POOL_QUEUE_BYTES_MAX: Final = 64 * MIB
#: Threads for locks that wait: each holds one.
FUSE_WAITING_THREADS_MAX: Final = 1024
#: A thread of a pool that has had nothing to do for so long ends.
FUSE_POOL_IDLE_S: Final = 20.0
#: Interruptions of requests that nobody here knows (yet).
FUSE_INTERRUPTS_REMEMBERED_MAX: Final = 1024
#: Replies up to this size are copied into one piece with their header: cheaper than two pieces.
FUSE_REPLY_JOINED_BYTES_MAX: Final = 8 * KIB
#: At most one line a second of the log tells why requests fail, for each kind of failure.
FUSE_FAILURE_LOG_S: Final = 1.0
#: How long one question for changes waits, and how much longer its answer may take.
FEED_WAIT_MS: Final = 3_000
FEED_ANSWER_S: Final = 3.0
#: A master that has not answered for so long may have changed anything.
FEED_SILENCE_S: Final = 7.0
FEED_RETRY_S: Final = 0.02
#: How long a program that got a lock waits until its mount has heard of what happened before.
FEED_CATCH_UP_S: Final = 2.0
FEED_RETRY_S_MAX: Final = 1.0
#: How long is waited for a mount to say that it lives, when it is looked at.
FUSE_PROBE_S: Final = 2.0
#: How long the command that mounts waits for the first answer.
FUSE_START_S: Final = 60.0
#: How long a daemon that was told to end waits for programs to close their files; what is open then is published as
#: it is, and the programs get errors.
FUSE_STOP_WAIT_S: Final = 10.0
#: How long a daemon that ends may take over publishing what is open; after that it is killed.
#: How long a mount's one reading thread looks for a next request before it sleeps.
FUSE_SPIN_S: Final = 150e-6
FUSE_STOP_S: Final = 60.0
#: A serving process that dies more often than this within the window is not started again: the mount ends.
FUSE_RESTARTS_MAX: Final = 5
FUSE_RESTART_WINDOW_S: Final = 60.0
FUSE_RESTART_DELAY_S: Final = 0.05
#: Processes that are named as the reason why a mount is busy.
FUSE_BUSY_NAMED_MAX: Final = 5
#: Containers that the kernel may keep open after their last close, and for how long: they are not evicted meanwhile.
FUSE_IDLE_BACKINGS_MAX: Final = 64
FUSE_IDLE_BACKING_S: Final = 2.0
#: The close of a file that the kernel read itself counts as a use if it was open for so long.
FUSE_LONG_OPEN_S: Final = 5.0
#: Readers with a connection of files that are not whole here: of all files, and of one.
FUSE_STREAMS_MAX: Final = 64
FUSE_STREAMS_PER_FILE_MAX: Final = 4
#: Nodes of which it is remembered whose bytes the kernel's page cache holds.
FUSE_KEPT_VERSIONS_MAX: Final = 262_144
#: How long an open that cannot share a kernel inode waits for the kernel to look the name up again.
FUSE_RETRY_OPEN_S: Final = 5.0
FUSE_RETRY_OPENS_MAX: Final = 4_096
#: Files whose descriptors or readers are kept for reads that no open came before (training mounts).
FUSE_UNOPENED_CONTENTS_MAX: Final = 512
#: A file up to this size that is removed while it is open is first read to its end; readers of larger ones that are not
#: whole here lose what nobody has any more.
FUSE_SECURED_BYTES_MAX: Final = 256 * MIB

#: Publishing of files written through a mount.
FUSE_GRANT_FRESH_S: Final = 60.0  # after which a leave to write that lay about is asked for anew
#: A grant younger than this shows that the master lives: nobody asks it whether it does.
FUSE_MASTER_SEEN_S: Final = 0.5
FUSE_MEMORY_FILES_SHARE: Final = 0.5  # of fuse.buffer_memory: small files being written
FUSE_FIRST_ROOM_BYTES: Final = 4 * MIB
FUSE_ROOM_STEP_MIN: Final = 16 * MIB  # room asked for ahead of a writer: doubles with each call
FUSE_ROOM_STEP_MAX: Final = 256 * MIB
FUSE_COPY_BYTES: Final = 4 * MIB
#: Ranges of a file that still are those of the version below: beyond, all of them are copied.
FUSE_BASE_RANGES_MAX: Final = 65_536
#: A file from this size on that is written to again after a close was published is published by the last close, by
#: fsync, or after so long.
FUSE_DEFER_BYTES: Final = 16 * MIB
FUSE_DEFER_S: Final = 5.0
FUSE_DEFER_SHARE: Final = 10.0  # times as long as publishing took, at least: it must not take most of the time
FUSE_PUBLISH_THREADS: Final = 4
FUSE_PUBLISH_RETRY_S: Final = 1.0  # doubles
FUSE_PUBLISH_RETRY_S_MAX: Final = 30.0
#: Files that were closed and could not be published: how many are kept, and how long each.
FUSE_UNPUBLISHED_MAX: Final = 1_024
FUSE_UNPUBLISHED_S: Final = 900.0
#: How often room is made ahead of programs whose writes the kernel passes to the draft itself.
FUSE_ROOM_WATCH_S: Final = 0.05
#: How often it is looked whether the connection that the drafts hang on still stands: several times within
#: DRAFT_TAKE_OVER_S.
FUSE_SESSION_KEEP_S: Final = 1.0
#: How long names of owners are taken for what they were, and how many of each kind are remembered.
OWNERS_AGE_S: Final = 60.0
OWNERS_REMEMBERED_MAX: Final = 4_096
#: Time-outs of names and attributes that are given to the kernel while changes may go unheard.
DEAF_TIMEOUT_S: Final = 1.0
#: Own changes that are known when the feed brings them; of older ones the kernel is told again.
OWN_CHANGES_MAX: Final = 65_536
#: Directories of which it is known when this mount changed them last, and times for each.
OWN_DIRECTORIES_MAX: Final = 4_096
OWN_TOUCHES_MAX: Final = 256
#: How long, and of how many files, it is remembered that somebody else changed them: a look-up under way then is
#: made again.
FRESH_CHANGES_MAX: Final = 4_096
#: Directories known to have no names but the namespace's, because they were made here.
WHOLE_DIRECTORIES_MAX: Final = 65_536
#: Directories of which it is known under which name the kernel knows them.
KNOWN_PLACES_MAX: Final = 65_536
#: Files without a name that are still open, whose last record is kept.
NAMELESS_FILES_MAX: Final = 65_536
#: Places in one open directory to which seekdir(3) goes back exactly; from older ones it counts.
DIRECTORY_PLACES_MAX: Final = 16_384
#: Entries of a directory that are looked up for the kernel in one request.
DIRECTORY_PAGE_ENTRIES: Final = 1_024
#: Changes that threads which read requests make themselves, at once, as a share of these threads.
CHANGES_INLINE_SHARE: Final = 0.5
#: How old what statfs(2) tells of the cluster may be.
STATFS_AGE_S: Final = 2.0
MOUNT_TABLE_AGE_S: Final = 5.0

# Standalone cluster
STANDALONE_WORKERS_MAX: Final = 64
