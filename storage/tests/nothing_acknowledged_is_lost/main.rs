//! Stores on disk whose process is killed, and whose disk is full or fails. The processes are
//! this program, run again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod child;
mod failed_syncs;
mod failing_disk;
mod full_disk;
mod killed_writers;
mod syncs;
