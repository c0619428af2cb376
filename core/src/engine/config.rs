use std::time::Duration;

use crate::wire::types::{Incarnation, ReplicaId, StoreId};

/// What an engine is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This run of the replica.
    pub incarnation: Incarnation,
    /// Its store, where it was not written to yet.
    pub store: StoreId,
    /// The replicas that form the group at its very first start (rule V3); empty for a
    /// replica that comes later.
    pub bootstrap: Vec<ReplicaId>,
    /// The name of the application (rule V5); empty without one.
    pub application: String,
    /// The store is gone with its process. A group that lost all its stores forms itself
    /// anew from `bootstrap`, so only replicas that are listed there may vote (rule V3).
    pub volatile: bool,
    /// How long commits may stand still, with work to do, before a new epoch is tried.
    /// Too low: epochs change for nothing under load. Too high: a sequencer that hangs
    /// without leaving the configuration stops the group for so long.
    pub election_timeout: Duration,
    /// After this time without an effect something is sent again.
    pub resend_timeout: Duration,
    /// How long a read may wait. Too low: reads fail while an epoch changes. Too high:
    /// readers wait long to hear that there is no majority.
    pub read_timeout: Duration,
    /// Own batches that may be under way at once; a small one goes only beside fewer
    /// commands than it has. Too low: the ring idles between batches. Too high: large
    /// batches queue up before the ring, and what comes behind waits for them.
    pub batches_in_flight_max: usize,
    /// Commands are gathered into a batch up to this size in bytes; a single larger one
    /// is a batch of its own.
    pub batch_bytes_max: usize,
    /// Entries handed out to be applied and not yet applied.
    pub applying_max: u64,
    /// The state is taken as a snapshot at every index that is a multiple of this. The same at
    /// all replicas, or they cannot be compared and stand in for each other. Too low: the
    /// replica is busy writing snapshots. Too high: a restart has many entries to apply.
    pub snapshot_entries: u64,
    /// It is also taken whenever that many bytes have come into the log. The same at all
    /// replicas.
    pub snapshot_bytes: u64,
    /// Entries that are kept behind the newest snapshot, for whoever lags a little.
    pub kept_entries_max: usize,
    /// Bytes of entries from which on the margin behind the newest snapshot is given up. Too
    /// low: whoever lags needs a snapshot, where some entries would do. Too high: that much
    /// memory, or room on the disk.
    pub kept_bytes_max: u64,
    /// Bytes of the newest entries that are kept in memory; of earlier ones, once they are applied,
    /// only the store has them, unless it is in memory itself. Too low: who lags a little waits for
    /// the disk. Too high: that much memory.
    pub cached_bytes_max: u64,
    /// Bytes of entries in memory from which on the log does not grow before a snapshot that
    /// is being written lets it shrink, or the state machine has caught up. Too low: a replica
    /// that is busy falls behind. Too high: that much memory.
    pub log_bytes_max: u64,
    /// The same of the log in the store, where that is not in memory. Up to seven eighths of what
    /// the log may take are kept for whoever receives a snapshot, and commands are held back so
    /// that this is enough (rule L7). Too low: commands are slow while a replica receives a
    /// snapshot. Too high: that much room on the disk, and a restart that takes longer.
    pub stored_bytes_max: u64,
    /// Bytes that may wait for the disk of the log before it does not grow. Too low: a disk
    /// that stalls makes its replica lag at once. Too high: that much memory.
    pub writing_bytes_max: usize,
}

impl Config {
    /// The usual values.
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
