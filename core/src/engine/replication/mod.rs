//! Ordering, committing and reading in an open epoch (docs/protocol.md §5).

pub(super) mod batch_pool;
pub(super) mod batches;
pub(super) mod clock;
pub(super) mod commit;
pub(super) mod ordering;
pub(super) mod outbox;
pub(super) mod progress;
pub(super) mod proposals;
pub(super) mod reads;
pub(super) mod timers;
