//! A folder belongs to one process and one replica, and its files are checked before they are used.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use plainsong_storage::{Folder, LogOp, LogStore, StorageError};

fn text(folder: &Path) -> String {
    match Folder::open(folder, b"mine").and_then(|folder| folder.log().map(|_| ())) {
        Ok(()) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_second_open_of_a_folder_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let first = Folder::open(&folder, b"mine").unwrap();
    let refused = Folder::open(&folder, b"mine").unwrap_err();
    let me = std::process::id().to_string();
    let expected = StorageError::InUse { path: folder.path().into(), owner: me };
    assert_eq!(refused, expected);
    let log = first.log().unwrap();
    drop(first);
    assert_eq!(Folder::open(&folder, b"mine").unwrap_err(), expected, "its log is still open");
    drop(log);
    Folder::open(&folder, b"mine").unwrap();
}

#[test]
fn a_folder_keeps_its_first_identity() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("a/b");
    drop(Folder::open(&below, b"first").unwrap());
    let again = Folder::open(&below, b"second").unwrap();
    assert_eq!(again.identity().as_ref(), b"first");
}

#[test]
fn interrupted_formatting_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let draft = folder.path().join("store.new");
    fs::create_dir(&draft).unwrap();
    fs::write(draft.join("marker"), "half").unwrap();
    Folder::open(&folder, b"mine").unwrap().log().unwrap();
    assert!(!draft.exists());
}

#[test]
fn a_store_of_a_later_format_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    drop(Folder::open(&folder, b"mine").unwrap());
    let marker = folder.path().join("store/marker");
    let mut bytes = fs::read(&marker).unwrap();
    bytes[8] = 9;
    fs::write(&marker, bytes).unwrap();
    let refused = text(folder.path());
    assert!(refused.contains("has format 9, but this program supports format 1"), "{refused}");
}

#[test]
fn a_flipped_bit_of_marker_or_watermark_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    drop(Folder::open(&folder, b"mine").unwrap());
    for (name, step) in [("marker", 1), ("log.synced", 13)] {
        let path = folder.path().join("store").join(name);
        let whole = fs::read(&path).unwrap();
        for bit in (0..whole.len() * 8).step_by(step) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bytes).unwrap();
            let refused = text(folder.path());
            let named = refused.contains(name) && refused.contains("is damaged");
            let version = refused.contains("but this program supports format 1");
            assert!(named || version, "{name}, bit {bit}: {refused}");
        }
        fs::write(&path, whole).unwrap();
    }
    Folder::open(&folder, b"mine").unwrap().log().unwrap();
}

#[test]
fn a_missing_or_truncated_file_is_detected() {
    for name in ["marker", "log.synced", "log.redb"] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Folder::open(&folder, b"mine").unwrap().log().unwrap();
        log.write(vec![LogOp::HardState("facts".into())]).unwrap();
        drop(log);
        let path = folder.path().join("store").join(name);
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let refused = text(folder.path());
            let found = refused.contains(name) && refused.contains("is damaged");
            assert!(found, "{length} bytes: {refused}");
        }
        fs::remove_file(&path).unwrap();
        let refused = text(folder.path());
        assert!(refused.contains(name) && refused.contains("it is missing"), "{refused}");
    }
}

#[test]
fn a_log_restored_from_an_earlier_copy_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Folder::open(&folder, b"mine").unwrap().log();
    let path = folder.path().join("store/log.redb");
    drop(open().unwrap());
    let earlier = fs::read(&path).unwrap();
    open().unwrap().write(vec![LogOp::HardState("facts".into())]).unwrap();
    fs::write(&path, earlier).unwrap();
    let refused = open().unwrap_err().to_string();
    assert!(refused.contains("ends with write 1, but write 2 was synced"), "{refused}");
}
