//! After a failed sync, what is read may not be on the disk. No store can be opened again until the
//! system has been restarted.

use std::fs;
use std::path::Path;

use plainsong_storage::{Folder, LogOp, LogStore, Record, SnapshotStore, StorageError};

use crate::child::{Running, given, print, strace};

fn record(index: u64) -> LogOp {
    LogOp::Append(Record { index, head: "head".into(), body: vec![7; 3000].into() })
}

/// Has the same effect on the mark as a restart of the system.
fn restart_the_system(folder: &Path) {
    let mark = folder.join("lock");
    let text = fs::read_to_string(&mark).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()), "{text}");
    fs::write(mark, text.replace(boot.trim(), "01234567-89ab-cdef-0123-456789abcdef")).unwrap();
}

/// Runs a test of this file in a child process in which one call for that file fails. Returns its
/// output; `None` if `strace` is not installed.
fn run(test: &str, folder: &Path, call: &str, file: &str, time: u64) -> Option<String> {
    let trace = folder.with_extension("trace");
    let path = folder.join(file);
    let inject = format!("inject={call}:error=EIO:when={time}");
    let arguments = ["-P", path.to_str().unwrap(), "-e", "trace=fsync,fdatasync", "-e", &inject];
    let strace = strace(&trace, &arguments)?;
    let mut child = Running::start(&format!("failed_syncs::{test}"), folder, &[], Some(strace));
    let said = child.next_text().unwrap();
    child.finish();
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("(INJECTED)"), "{trace}");
    Some(said)
}

fn check_refused(folder: &Path, file: &str) {
    for _ in 0..2 {
        let refused = Folder::open(folder, b"mine").unwrap_err();
        assert!(matches!(refused, StorageError::SyncFailedBefore { .. }), "{refused}");
        let text = refused.to_string();
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        assert!(text.contains(name) && text.contains("Input/output error"), "{text}");
        assert!(text.contains("restart the machine") && text.contains("lock"), "{text}");
    }
    restart_the_system(folder);
    drop(Folder::open(folder, b"mine").unwrap());
    drop(Folder::open(folder, b"mine").unwrap());
}

#[test]
fn a_failed_sync_of_the_log_is_remembered_until_the_system_restarts() {
    let at = tempfile::tempdir().unwrap();
    let folder = at.path().join("replica");
    drop(Folder::open(&folder, b"mine").unwrap());
    let file = "store/log.redb";
    let Some(said) = run("writes_until_it_fails", &folder, "fdatasync", file, 8) else { return };
    assert!(said.contains("Input/output error"), "{said}");
    check_refused(&folder, file);
    assert!(
        !Folder::open(&folder, b"mine")
            .unwrap()
            .log()
            .unwrap()
            .recover(0)
            .unwrap()
            .records
            .is_empty()
    );
}

#[test]
fn a_failed_sync_when_a_store_is_opened_is_remembered() {
    for (test, file) in [("opens_the_log", "store/log.redb"), ("opens_the_log", "store/log.synced")]
    {
        let at = tempfile::tempdir().unwrap();
        let folder = at.path().join("replica");
        drop(Folder::open(&folder, b"mine").unwrap());
        let Some(said) = run(test, &folder, "fsync", file, 1) else { return };
        assert!(said.contains("cannot sync"), "{said}");
        check_refused(&folder, file);
    }
}

#[test]
fn a_failed_sync_of_a_snapshot_is_remembered() {
    // sled syncs its file once by itself, and beginning a snapshot also syncs the folder of the
    // index.
    for (file, time) in [
        ("store/snapshots/1/db", 2),
        ("store/snapshots/1", 1),
        ("store/snapshots", 1),
        ("store", 2),
    ] {
        let at = tempfile::tempdir().unwrap();
        let folder = at.path().join("replica");
        drop(Folder::open(&folder, b"mine").unwrap());
        let Some(said) = run("commits_a_snapshot", &folder, "fsync", file, time) else { return };
        assert!(said.contains("cannot sync"), "{file}: {said}");
        check_refused(&folder, file);
        // The snapshot may be there or not; if it is, it is complete.
        let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
        for complete in store.complete().unwrap() {
            assert_eq!(store.read(complete.key, 0).unwrap().len(), 60_000);
        }
    }
}

#[test]
fn a_failed_sync_of_a_new_store_is_remembered() {
    for file in ["store.new/marker", "store.new", ""] {
        let at = tempfile::tempdir().unwrap();
        let folder = at.path().join("replica");
        fs::create_dir(&folder).unwrap();
        let Some(said) = run("opens_the_log", &folder, "fsync", file, 1) else { return };
        assert!(said.contains("cannot sync"), "{file}: {said}");
        let refused = Folder::open(&folder, b"mine").unwrap_err();
        assert!(matches!(refused, StorageError::SyncFailedBefore { .. }), "{file}: {refused}");
        restart_the_system(&folder);
        Folder::open(&folder, b"mine").unwrap().log().unwrap();
    }
}

#[test]
#[ignore = "run by the tests above"]
fn writes_until_it_fails() {
    let (folder, _) = given();
    let mut log = Folder::open(folder, b"mine").unwrap().log().unwrap();
    let failure = (1..).find_map(|index| log.write(vec![record(index)]).err());
    print(failure.unwrap());
}

#[test]
#[ignore = "run by the tests above"]
fn opens_the_log() {
    let (folder, _) = given();
    print(Folder::open(folder, b"mine").and_then(|folder| folder.log()).unwrap_err());
}

#[test]
#[ignore = "run by the tests above"]
fn commits_a_snapshot() {
    let (folder, _) = given();
    let mut store = Folder::open(folder, b"mine").unwrap().snapshots().unwrap();
    let key = store.begin().unwrap();
    store.write(key, 0, vec![7; 60_000].into()).unwrap();
    print(store.commit(key, "about".into()).unwrap_err());
    // Skips sled's writes on drop, which are not part of the commit.
    std::process::exit(0);
}
