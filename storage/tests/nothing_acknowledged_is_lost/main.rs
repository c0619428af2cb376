//! Stores on disk whose process is killed, or whose disk is full or fails. The child processes run
//! this same program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod child;
mod failed_syncs;
mod failing_disk;
mod full_disk;
mod killed_writers;
mod syncs;
