//! The contract of stores, as cases that panic if a store violates it (feature `testing`).
//!
//! ```
//! use plainsong_storage::MemoryLog;
//! use plainsong_storage::conformance::{self, Logs};
//!
//! struct InMemory;
//!
//! impl Logs for InMemory {
//!     type Log = MemoryLog;
//!
//!     fn empty(&mut self) -> MemoryLog {
//!         MemoryLog::new()
//!     }
//!
//!     fn reopen(&mut self, log: MemoryLog) -> MemoryLog {
//!         log
//!     }
//! }
//!
//! conformance::check_log(&mut InMemory);
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a case reports a violation by panicking, as a test does"
)]

mod draw;
mod log;
mod snapshots;

pub use draw::Draw;
pub use log::{Logs, check_log, check_writes, draw_write};
pub use snapshots::{Snapshots, check_snapshots};
