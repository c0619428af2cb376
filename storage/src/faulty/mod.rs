//! Stores that lose what was not synced, for simulations and tests (feature `testing`).

mod log;

pub use log::FaultyLog;
