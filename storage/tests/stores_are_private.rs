//! Only the owner can read a store, regardless of the umask and of existing permissions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use plainsong_storage::{Folder, LogOp, LogStore, Record, SnapshotStore};

const FOLDER: &str = "PLAINSONG_FOLDER";

/// Calls `see` for every file and folder below `path`, with its mode.
fn walk(path: &Path, see: &mut impl FnMut(&Path, u32)) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        see(&path, metadata.permissions().mode() & 0o7777);
        if metadata.is_dir() {
            walk(&path, see);
        }
    }
}

fn check_private(path: &Path) {
    let mut names = Vec::new();
    walk(path, &mut |path, mode| {
        let right = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, right, "{:o} {}", mode, path.display());
        names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    });
    for name in ["lock", "store", "marker", "log.redb", "log.synced", "snapshots.index", "db"] {
        assert!(names.iter().any(|found| found == name), "no {name} in {names:?}");
    }
}

/// Runs the ignored test below with this umask.
fn write_with(umask: &str, folder: &Path) {
    let script = format!("umask {umask}; exec \"$0\" \"$@\"");
    let status = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "writes_a_store"])
        .env(FOLDER, folder)
        .status();
    assert!(status.unwrap().success());
}

#[test]
#[ignore = "run by the tests below"]
fn writes_a_store() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let folder = Folder::open(folder, b"mine").unwrap();
    assert_eq!(folder.exposed(), None);
    let mut log = folder.log().unwrap();
    let last = log.recover(0).unwrap().records.len() as u64;
    let record = Record { index: last + 1, head: "head".into(), body: "body".into() };
    log.write(vec![LogOp::Append(record)]).unwrap();
    let mut snapshots = folder.snapshots().unwrap();
    let key = snapshots.begin().unwrap();
    snapshots.write(key, 0, vec![7; 60_000].into()).unwrap();
    snapshots.commit(key, "about".into()).unwrap();
}

#[test]
fn a_store_is_private_regardless_of_the_umask() {
    for umask in ["000", "022", "077"] {
        let at = tempfile::tempdir().unwrap();
        let folder = at.path().join("replicas/one");
        write_with(umask, &folder);
        check_private(&folder);
        for made in [&folder, folder.parent().unwrap()] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o7777, 0o700);
        }
    }
}

#[test]
fn opening_a_readable_store_makes_it_private() {
    let folder = tempfile::tempdir().unwrap();
    write_with("000", folder.path());
    let mut paths = Vec::new();
    walk(folder.path(), &mut |path, _| paths.push(path.to_owned()));
    for path in paths {
        let open = if path.is_dir() { 0o777 } else { 0o666 };
        fs::set_permissions(path, Permissions::from_mode(open)).unwrap();
    }
    // The folder itself may be shared on purpose.
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    drop(Folder::open(&folder, b"mine").unwrap());
    check_private(folder.path());
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o755);
}
