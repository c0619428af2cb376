use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use plainsong_storage::conformance::{Draw, draw_write};
use plainsong_storage::{Folder, LogStore, MemoryLog, SnapshotKey, SnapshotStore};

use crate::child::{Running, given, print};

/// Default number of killed writers; `PLAINSONG_KILLS` overrides it.
const KILLS: u64 = 20;

fn kills() -> u64 {
    std::env::var("PLAINSONG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS)
}

/// Kills the child after a random number of writes and a random time. Returns the last number that
/// it printed.
fn kill_somewhere(mut writer: Running, draw: &mut Draw) -> Option<u64> {
    let mut last = None;
    for _ in 0..draw.below(20) {
        last = writer.next_number();
    }
    std::thread::sleep(Duration::from_micros(draw.below(5000)));
    writer.kill().or(last)
}

/// The content of a log after a sequence of writes. Each write is determined by its number and by
/// the state that the writes before it have left.
#[derive(Default)]
struct Model {
    log: MemoryLog,
    writes: u64,
    first: u64,
    last: u64,
}

impl Model {
    fn write(&mut self) {
        self.writes += 1;
        let mut draw = Draw::new(self.writes);
        let ops = draw_write(&mut draw, &mut self.first, &mut self.last);
        self.log.write(ops).unwrap();
    }
}

#[test]
fn a_log_whose_writers_are_killed_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, mut draw) = (Model::default(), Draw::new(1));
    let mut unacknowledged = 0;
    for kill in 0..kills() {
        let numbers = [model.writes, model.first, model.last];
        let test = "killed_writers::writes_the_log";
        let writer = Running::start(test, folder.path(), &numbers, None);
        let acknowledged = kill_somewhere(writer, &mut draw).unwrap_or(model.writes);
        while model.writes < acknowledged {
            model.write();
        }
        let mut log = Folder::open(&folder, b"mine").unwrap().log().unwrap();
        let held = log.recover(0).unwrap();
        if held != model.log.recover(0).unwrap() {
            model.write();
            unacknowledged += 1;
            assert_eq!(held, model.log.recover(0).unwrap(), "kill {kill}, write {acknowledged}");
        }
    }
    println!(
        "{} kills, {} writes; {unacknowledged} times an unacknowledged write was there as a whole",
        kills(),
        model.writes
    );
    assert!(model.writes > kills(), "there were {} writes", model.writes);
}

#[test]
#[ignore = "run by the test above"]
fn writes_the_log() {
    let (folder, numbers) = given();
    let mut log = Folder::open(folder, b"mine").unwrap().log().unwrap();
    let [mut number, mut first, mut last] = numbers[..] else { panic!("{numbers:?}") };
    loop {
        number += 1;
        log.write(draw_write(&mut Draw::new(number), &mut first, &mut last)).unwrap();
        print(number);
    }
}

const CHUNKS: u64 = 6;

fn chunk(key: SnapshotKey, chunk: u64) -> Bytes {
    let mut draw = Draw::new(key.0 * CHUNKS + chunk);
    let length = draw.length(60_000);
    draw.bytes(length)
}

#[test]
fn a_snapshot_store_whose_writers_are_killed_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (mut draw, mut newest) = (Draw::new(2), 0);
    let mut found = 0;
    for kill in 0..kills() / 2 {
        let test = "killed_writers::writes_snapshots";
        let writer = Running::start(test, folder.path(), &[], None);
        newest = newest.max(kill_somewhere(writer, &mut draw).unwrap_or(0));
        found += check_snapshots(folder.path(), newest, kill);
    }
    assert!(found > 0);
}

/// Checks that the newest acknowledged snapshot exists, or a newer one, and that all are complete.
fn check_snapshots(folder: &Path, newest: u64, kill: u64) -> usize {
    let mut store = Folder::open(folder, b"mine").unwrap().snapshots().unwrap();
    let complete = store.complete().unwrap();
    let last = complete.last().map_or(0, |snapshot| snapshot.key.0);
    assert!(last >= newest, "kill {kill}: {newest} was acknowledged, {last} is there");
    for snapshot in &complete {
        assert_eq!(snapshot.about, chunk(snapshot.key, CHUNKS), "kill {kill}");
        for number in 0..CHUNKS {
            let read = store.read(snapshot.key, number).unwrap();
            assert_eq!(read, chunk(snapshot.key, number), "kill {kill}");
        }
    }
    complete.len()
}

#[test]
#[ignore = "run by the test above"]
fn writes_snapshots() {
    let (folder, _) = given();
    let mut store = Folder::open(folder, b"mine").unwrap().snapshots().unwrap();
    loop {
        let before = store.complete().unwrap();
        let key = store.begin().unwrap();
        for number in 0..CHUNKS {
            store.write(key, number, chunk(key, number)).unwrap();
        }
        store.commit(key, chunk(key, CHUNKS)).unwrap();
        print(key.0);
        for old in before.iter().rev().skip(1) {
            store.remove(old.key).unwrap();
        }
    }
}
