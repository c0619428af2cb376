//! Snapshots much larger than the store's cache do not stay in memory. Alone in its program,
//! because it measures the memory of the whole process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use plainsong_storage::conformance::Draw;
use plainsong_storage::{Folder, SnapshotKey, SnapshotStore};

const CHUNKS: u64 = 3000;
const CHUNK_BYTES: usize = 61_440;

/// Returns the peak memory of this process in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

fn chunk(key: SnapshotKey, chunk: u64) -> bytes::Bytes {
    Draw::new(key.0 * CHUNKS + chunk).bytes(CHUNK_BYTES)
}

#[test]
fn writing_reading_and_removing_snapshots_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let mut before = None;
    for _ in 0..3 {
        let key = store.begin().unwrap();
        (0..CHUNKS).for_each(|number| store.write(key, number, chunk(key, number)).unwrap());
        store.commit(key, "about".into()).unwrap();
        for number in 0..CHUNKS {
            assert!(store.read(key, number).unwrap() == chunk(key, number), "chunk {number}");
        }
        if let Some(before) = before.replace(key) {
            store.remove(before).unwrap();
        }
    }
    // Two snapshots exist at the same time. The peak is about 148 MiB on an idle machine and was
    // 160 MiB on a loaded one: it includes buffers that sled has not written yet.
    let (peak, size) = (peak_mib(), (CHUNKS * CHUNK_BYTES as u64) >> 20);
    assert!(peak < size, "{peak} MiB in memory for snapshots of {size} MiB each");
}
