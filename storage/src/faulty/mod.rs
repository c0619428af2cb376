//! Stores that lose what was not synced, for simulations and tests (feature `testing`).

mod log;
mod snapshots;

pub use log::FaultyLog;
pub use snapshots::FaultySnapshots;
