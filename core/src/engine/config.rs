use std::time::Duration;

use crate::wire::types::{Incarnation, ReplicaId, StoreId};

/// Configuration of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This run of the replica.
    pub incarnation: Incarnation,
    /// Id of the store. Used only if the store was never written to.
    pub store: StoreId,
    /// Replicas that form the group at its very first start (rule V3); empty for a replica that
    /// joins later.
    pub bootstrap: Vec<ReplicaId>,
    /// Name of the application (rule V5); empty without one.
    pub application: String,
    /// True if the store is lost with its process. A group that lost all its stores forms anew from
    /// `bootstrap`, so only replicas that are listed there may vote (rule V3).
    pub volatile: bool,
    /// Maximum time without a commit, while there is work to do, before a new epoch is tried. If
    /// too low, epochs change needlessly under load; if too high, a sequencer that hangs without
    /// leaving the configuration stops the group for that long.
    pub election_timeout: Duration,
    /// Time without an effect after which a message is sent again.
    pub resend_timeout: Duration,
    /// Maximum time for which a read may wait. If too low, reads fail while an epoch changes; if
    /// too high, readers wait long before they learn that there is no majority.
    pub read_timeout: Duration,
    /// Maximum number of this replica's batches in flight. A small batch is sent only while fewer
    /// commands than it holds are in flight. If too low, the ring idles between batches; if too
    /// high, large batches queue up in front of the ring and delay everything after them.
    pub batches_in_flight_max: usize,
    /// Maximum size of a batch of several commands, in bytes. A single larger command is a batch of
    /// its own.
    pub batch_bytes_max: usize,
    /// Maximum number of entries handed out to be applied and not yet applied.
    pub applying_max: u64,
    /// Number of entries between snapshots: one is taken at every index that is a multiple of this.
    /// Must be the same at all replicas, so that snapshots can be compared and can replace each
    /// other. If too low, the replica is busy writing snapshots; if too high, a restart has many
    /// entries to apply.
    pub snapshot_entries: u64,
    /// Number of bytes of log between snapshots, in addition to `snapshot_entries`. Must be the
    /// same at all replicas.
    pub snapshot_bytes: u64,
    /// Number of entries before the newest snapshot that are kept, for slightly lagging replicas.
    pub kept_entries_max: usize,
    /// Maximum number of bytes of the log while entries before the newest snapshot are kept. If too
    /// low, a lagging replica needs a snapshot where some entries would do; if too high, the log
    /// takes that much memory, or disk.
    pub kept_bytes_max: u64,
    /// Number of bytes of the newest entries that are kept in memory. Older entries, once applied,
    /// are only in the store, unless that is in memory itself. If too low, a slightly lagging
    /// replica waits for the disk; if too high, the cache takes that much memory.
    pub cached_bytes_max: u64,
    /// Maximum number of bytes of entries in memory. Beyond it the log does not grow until a
    /// snapshot that is being written lets it shrink, or the state machine has caught up. If too
    /// low, a busy replica falls behind; if too high, the log takes that much memory.
    pub log_bytes_max: u64,
    /// Maximum number of bytes of the log in a store that is not in memory. Up to seven eighths of
    /// it are kept for replicas that receive a snapshot, and commands are held back so that this is
    /// enough (rule L7). If too low, commands are slow while a replica receives a snapshot; if too
    /// high, the log takes that much disk, and a restart takes longer.
    pub stored_bytes_max: u64,
    /// Maximum number of bytes that wait for the disk of the log; beyond it the log does not grow.
    /// If too low, a stall of the disk makes the replica lag at once; if too high, the queue takes
    /// that much memory.
    pub writing_bytes_max: usize,
}

impl Config {
    /// Returns a configuration with the default values.
    pub fn new(incarnation: Incarnation, store: StoreId, bootstrap: Vec<ReplicaId>) -> Self {
        Self {
            incarnation,
            store,
            bootstrap,
            application: String::new(),
            volatile: false,
            election_timeout: Duration::from_secs(1),
            resend_timeout: Duration::from_millis(250),
            read_timeout: Duration::from_secs(10),
            batches_in_flight_max: 8,
            batch_bytes_max: 63 << 10,
            applying_max: 1024,
            snapshot_entries: 16_384,
            snapshot_bytes: 64 << 20,
            kept_entries_max: 8192,
            kept_bytes_max: 256 << 20,
            cached_bytes_max: 64 << 20,
            log_bytes_max: 512 << 20,
            stored_bytes_max: 1 << 30,
            writing_bytes_max: 64 << 20,
        }
    }
}
