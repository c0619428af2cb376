//! Runs the contract of stores on every implementation.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use plainsong_storage::conformance::{self, Logs, Snapshots};
use plainsong_storage::faulty::FaultyLog;
use plainsong_storage::{DiskLog, DiskSnapshots, Folder, MemoryLog, MemorySnapshots};
use tempfile::TempDir;

struct InMemory;

impl Logs for InMemory {
    type Log = MemoryLog;

    fn empty(&mut self) -> MemoryLog {
        MemoryLog::new()
    }

    fn reopen(&mut self, log: MemoryLog) -> MemoryLog {
        log
    }
}

impl Snapshots for InMemory {
    type Store = MemorySnapshots;

    fn empty(&mut self) -> MemorySnapshots {
        MemorySnapshots::new()
    }

    fn reopen(&mut self, mut store: MemorySnapshots) -> MemorySnapshots {
        store.forget_drafts();
        store
    }
}

struct Faulty;

impl Logs for Faulty {
    type Log = FaultyLog;

    fn empty(&mut self) -> FaultyLog {
        FaultyLog::new()
    }

    fn reopen(&mut self, mut log: FaultyLog) -> FaultyLog {
        log.crash(0).unwrap();
        log
    }
}

/// Stores on disk, each in its own folder. The last one is in use.
#[derive(Default)]
struct OnDisk {
    folders: Vec<TempDir>,
}

impl OnDisk {
    fn folder(&self) -> Folder {
        Folder::open(self.folders.last().unwrap(), b"identity").unwrap()
    }
}

impl Logs for OnDisk {
    type Log = DiskLog;

    fn empty(&mut self) -> DiskLog {
        self.folders.push(tempfile::tempdir().unwrap());
        self.folder().log().unwrap()
    }

    fn reopen(&mut self, log: DiskLog) -> DiskLog {
        drop(log);
        self.folder().log().unwrap()
    }
}

impl Snapshots for OnDisk {
    type Store = DiskSnapshots;

    fn empty(&mut self) -> DiskSnapshots {
        self.folders.push(tempfile::tempdir().unwrap());
        self.folder().snapshots().unwrap()
    }

    fn reopen(&mut self, store: DiskSnapshots) -> DiskSnapshots {
        drop(store);
        self.folder().snapshots().unwrap()
    }
}

#[test]
fn a_log_in_memory() {
    conformance::check_log(&mut InMemory);
}

#[test]
fn a_log_that_loses_unsynced_writes() {
    conformance::check_log(&mut Faulty);
}

#[test]
fn a_log_on_disk() {
    conformance::check_log(&mut OnDisk::default());
}

#[test]
fn snapshots_in_memory() {
    conformance::check_snapshots(&mut InMemory);
}

#[test]
fn snapshots_on_disk() {
    conformance::check_snapshots(&mut OnDisk::default());
}
