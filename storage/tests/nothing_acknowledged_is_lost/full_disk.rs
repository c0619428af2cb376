use std::fs;
use std::path::Path;
use std::process::Command;

use plainsong_storage::conformance::Draw;
use plainsong_storage::{DiskLog, Folder, LogOp, LogStore, Record, StorageError};

/// A small file system in memory. Unmounted when dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        let option = format!("size={size}");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(at).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            eprintln!("NOT RUN: mounting a small file system needs root");
            return None;
        }
        Some(Self(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn record(index: u64) -> Record {
    let body = Draw::new(index).bytes(30_000);
    Record { index, head: "head".into(), body }
}

fn open(path: &Path) -> DiskLog {
    Folder::open(path, b"mine").unwrap().log().unwrap()
}

#[test]
fn a_full_disk_stops_the_log_until_it_is_reopened_with_free_space() {
    let at = tempfile::tempdir().unwrap();
    let Some(_disk) = Disk::mount(at.path(), "12m") else { return };
    let ballast = at.path().join("ballast");
    fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let path = at.path().join("replica");
    let mut log = open(&path);
    let mut acknowledged = 0;
    let full = loop {
        match log.write(vec![LogOp::Append(record(acknowledged + 1))]) {
            Ok(()) => acknowledged += 1,
            Err(full) => break full.to_string(),
        }
    };
    assert!(full.contains("No space left on device") && full.contains("check the disk"), "{full}");
    assert!(acknowledged > 50, "only {acknowledged} fit");
    // Free space does not make the failed store accept writes.
    fs::remove_file(&ballast).unwrap();
    let refused = log.write(vec![LogOp::Append(record(acknowledged + 1))]).unwrap_err();
    assert!(matches!(refused, StorageError::Failed { .. }), "{refused}");
    drop(log);
    let mut log = open(&path);
    let held = log.recover(0).unwrap().records;
    assert!(held.len() as u64 >= acknowledged);
    assert_eq!(held, (1..=held.len() as u64).map(record).collect::<Vec<_>>());
    let next = held.len() as u64 + 1;
    log.write(vec![LogOp::Append(record(next))]).unwrap();
    drop(log);
    assert_eq!(open(&path).recover(0).unwrap().records.len() as u64, next);
}
