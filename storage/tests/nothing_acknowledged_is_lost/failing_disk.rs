use std::fs;

use plainsong_storage::{Folder, LogOp, LogStore, Record, StorageError};

use crate::child::{Running, given, print, strace};

fn record(index: u64) -> LogOp {
    LogOp::Append(Record { index, head: "head".into(), body: vec![7; 3000].into() })
}

#[test]
fn a_failed_sync_stops_the_log() {
    stops_the_log("fdatasync", 8);
}

#[test]
fn a_failed_write_stops_the_log() {
    stops_the_log("pwrite64", 60);
}

/// Makes the call fail once, at its `time`-th use. All writes acknowledged before must be kept, and
/// nothing may be retried.
fn stops_the_log(call: &str, time: u64) {
    let folder = tempfile::tempdir().unwrap();
    drop(Folder::open(&folder, b"mine").unwrap());
    let trace = folder.path().join("trace");
    let inject = format!("inject={call}:error=EIO:when={time}");
    let log = folder.path().join("store/log.redb");
    let arguments = ["-P", log.to_str().unwrap(), "-e", "trace=fdatasync,pwrite64", "-e", &inject];
    let Some(strace) = strace(&trace, &arguments) else { return };
    let store = folder.path().to_owned();
    let mut writer =
        Running::start("failing_disk::writes_until_it_fails", &store, &[], Some(strace));
    let acknowledged = writer.next_number().unwrap();
    let reason = writer.next_text().unwrap();
    assert!(reason.contains("Input/output error"), "{reason}");
    writer.finish();
    assert!(acknowledged > 0, "the call failed before any write was acknowledged");
    let trace = fs::read_to_string(trace).unwrap();
    let after = trace.split_once("(INJECTED)").unwrap().1;
    let again = after.lines().skip(1).find(|line| line.contains("fdatasync"));
    assert_eq!(again, None, "a sync after the failure");
    if call == "fdatasync" {
        let refused = Folder::open(&folder, b"mine").unwrap_err();
        assert!(matches!(refused, StorageError::SyncFailedBefore { .. }), "{refused}");
        // The disk of this test has lost nothing.
        fs::remove_file(folder.path().join("lock")).unwrap();
    }
    let mut log = Folder::open(&folder, b"mine").unwrap().log().unwrap();
    let held = log.recover(0).unwrap().records.len() as u64;
    assert!(held == acknowledged || held == acknowledged + 1, "{held} of {acknowledged}");
}

#[test]
#[ignore = "run by the tests above"]
fn writes_until_it_fails() {
    let (folder, _) = given();
    let mut log = Folder::open(folder, b"mine").unwrap().log().unwrap();
    let mut acknowledged = 0;
    let failure = loop {
        match log.write(vec![record(acknowledged + 1)]) {
            Ok(()) => acknowledged += 1,
            Err(failure) => break failure,
        }
    };
    print(acknowledged);
    print(&failure);
    for _ in 0..3 {
        let refused = log.write(vec![record(acknowledged + 1)]).unwrap_err();
        assert!(matches!(refused, StorageError::Failed { .. }), "{refused}");
    }
}
