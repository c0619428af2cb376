//! Stores written by earlier versions can be read. `PLAINSONG_WRITE_FIXTURE=1` writes a fixture of
//! the current format, for use when the format changes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use plainsong_storage::{
    Folder, LogOp, LogStore, Record, SnapshotStore, StoredLog, StoredSnapshot,
};

const IDENTITY: &[u8] = b"replica 1";

fn fixture(version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/folder-{version}"))
}

fn record(index: u64) -> Record {
    let body = vec![index as u8; 100 * index as usize].into();
    Record { index, head: format!("head {index}").into(), body }
}

fn chunk(number: u64) -> Bytes {
    vec![number as u8; 1000].into()
}

/// Writes the content that [`check`] expects.
fn write(path: &Path) {
    let folder = Folder::open(path, IDENTITY).unwrap();
    let mut log = folder.log().unwrap();
    log.write((1..=9).map(record).map(LogOp::Append).collect()).unwrap();
    log.write(vec![LogOp::HardState("facts".into()), LogOp::Compact(2), LogOp::Truncate(7)])
        .unwrap();
    let mut snapshots = folder.snapshots().unwrap();
    let key = snapshots.begin().unwrap();
    for number in 0..3 {
        snapshots.write(key, number, chunk(number)).unwrap();
    }
    snapshots.commit(key, "about".into()).unwrap();
}

fn check(path: &Path) {
    let folder = Folder::open(path, b"another").unwrap();
    assert_eq!(folder.identity().as_ref(), IDENTITY);
    let held = folder.log().unwrap().recover(0).unwrap();
    let records = (3..=7).map(record).collect();
    assert_eq!(held, StoredLog { hard_state: Some("facts".into()), compacted: 2, records });
    let mut snapshots = folder.snapshots().unwrap();
    let complete = snapshots.complete().unwrap();
    let [StoredSnapshot { key, about }] = &complete[..] else { panic!("{complete:?}") };
    assert_eq!(about, "about");
    for number in 0..3 {
        assert_eq!(snapshots.read(*key, number).unwrap(), chunk(number));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_folder_of_version_1_can_be_read() {
    let fixture = fixture(1);
    if std::env::var_os("PLAINSONG_WRITE_FIXTURE").is_some() {
        write(&fixture);
        fs::remove_file(fixture.join("lock")).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture, folder.path());
    check(folder.path());
}

#[test]
fn a_folder_of_the_current_version_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    check(folder.path());
}
