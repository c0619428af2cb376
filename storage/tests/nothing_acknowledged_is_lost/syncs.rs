use std::fs;

use plainsong_storage::{Folder, LogOp, LogStore, Record, SnapshotStore};

use crate::child::{Running, given, strace};

const WRITES: u64 = 10;

#[test]
fn a_snapshot_enters_the_index_only_after_all_its_files_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    drop(Folder::open(&folder, b"mine").unwrap());
    let trace = folder.path().join("trace");
    let calls = "trace=fsync,fdatasync,sync_file_range,pwrite64,rename";
    let Some(strace) = strace(&trace, &["-e", calls]) else { return };
    Running::start("syncs::commits_a_snapshot", folder.path(), &[], Some(strace)).finish();
    let trace = fs::read_to_string(trace).unwrap();
    let named = trace.lines().collect::<Vec<_>>();
    let last = |what: &[&str]| {
        let found = named.iter().rposition(|line| what.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("no {what:?} in\n{trace}"))
    };
    let renamed = last(&["rename(", "snapshots.index.new"]);
    let before = |what: &[&str]| {
        let found =
            named[..renamed].iter().rposition(|line| what.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("no {what:?} before the rename in\n{trace}"))
    };
    let written = before(&["pwrite64(", "/store/snapshots/1/db>"]);
    let flushed = before(&["sync_file_range(", "/store/snapshots/1/db>"]);
    let synced = before(&["fsync(", "/store/snapshots/1/db>"]);
    assert!(written < synced && flushed < synced, "the file is synced after its last write");
    let own = before(&["fsync(", "/store/snapshots/1>"]);
    let folder = before(&["fsync(", "/store/snapshots>"]);
    let index = before(&["fsync(", "/store/snapshots.index.new>"]);
    assert!(
        synced < index && own < index && folder < index,
        "the index is written after all these syncs"
    );
    assert!(renamed < last(&["fsync(", "/store>"]), "the rename is synced at the end");
}

#[test]
#[ignore = "run by the test above"]
fn commits_a_snapshot() {
    let (folder, _) = given();
    let mut store = Folder::open(folder, b"mine").unwrap().snapshots().unwrap();
    let key = store.begin().unwrap();
    for chunk in 0..20 {
        store.write(key, chunk, vec![7; 60_000].into()).unwrap();
    }
    store.commit(key, "about".into()).unwrap();
    // Skips sled's writes on drop, which are not part of the commit.
    std::process::exit(0);
}

#[test]
fn a_write_to_the_log_takes_one_sync() {
    let syncs = |writes: u64| {
        let folder = tempfile::tempdir().unwrap();
        drop(Folder::open(&folder, b"mine").unwrap());
        let trace = folder.path().join("trace");
        let strace = strace(&trace, &["-e", "trace=fdatasync,fsync"])?;
        Running::start("syncs::writes_the_log", folder.path(), &[writes], Some(strace)).finish();
        let trace = fs::read_to_string(trace).unwrap();
        Some(trace.lines().filter(|line| line.contains("sync(")).count() as u64)
    };
    let (Some(none), Some(some)) = (syncs(0), syncs(WRITES)) else { return };
    assert_eq!(some - none, WRITES);
}

#[test]
#[ignore = "run by the test above"]
fn writes_the_log() {
    let (folder, numbers) = given();
    let mut log = Folder::open(folder, b"mine").unwrap().log().unwrap();
    for write in 0..numbers[0] {
        let first = write * 5 + 1;
        let append = |index| LogOp::Append(Record { index, head: "a".into(), body: "b".into() });
        log.write((first..first + 5).map(append).collect()).unwrap();
    }
    std::process::exit(0);
}

#[test]
fn a_new_store_is_renamed_after_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let Some(strace) = strace(&trace, &["-e", "trace=fsync,fdatasync,rename"]) else { return };
    Running::start("syncs::writes_the_log", folder.path(), &[0], Some(strace)).finish();
    let trace = fs::read_to_string(trace).unwrap();
    let mut lines = trace.lines();
    let draft = format!("{}/store.new>", folder.path().display());
    let own = format!("{}>", folder.path().display());
    let mut next = |what: &[&str]| {
        let found = lines.find(|line| what.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("no {what:?} in its place in\n{trace}"));
    };
    next(&["fsync(", &draft]);
    next(&["rename(", "store.new", "/store\""]);
    next(&["fsync(", &own]);
}

#[test]
fn opening_a_log_makes_its_watermark_durable() {
    let folder = tempfile::tempdir().unwrap();
    drop(Folder::open(&folder, b"mine").unwrap());
    let trace = folder.path().join("trace");
    let Some(strace) = strace(&trace, &["-e", "trace=fsync,pwrite64"]) else { return };
    Running::start("syncs::writes_the_log", folder.path(), &[0], Some(strace)).finish();
    let trace = fs::read_to_string(trace).unwrap();
    let calls: Vec<_> = trace.lines().filter(|line| line.contains("/log.synced>")).collect();
    let (last, before) = calls.split_last().unwrap();
    assert!(last.contains("fsync("), "{calls:?}");
    assert!(before.iter().any(|line| line.contains("pwrite64(")), "{calls:?}");
}
