use std::sync::atomic::{AtomicU64, Ordering};

/// Mutants of the locks that the tests must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A lock is granted although another holds it.
    TwoHolders,
    /// A grant has the token of the one before.
    TokenStays,
    /// Who has left the group keeps its locks.
    DepartureIgnored,
    /// A lease ends by the replica's own clock.
    OwnClock,
}

impl Canary {
    /// Every one.
    pub const ALL: [Self; 4] =
        [Self::TwoHolders, Self::TokenStays, Self::DepartureIgnored, Self::OwnClock];
}

/// How far a clock goes ahead of the log's time, another one for each machine.
pub(crate) fn clock_ahead_ms() -> u64 {
    static CLOCKS: AtomicU64 = AtomicU64::new(0);
    CLOCKS.fetch_add(1, Ordering::Relaxed) % 5 * 300
}
