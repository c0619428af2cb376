use std::os::unix::fs::MetadataExt;

use super::*;
use crate::Folder;
use crate::conformance::Draw;

/// A folder with a complete snapshot of some chunks in it.
fn folder_with_a_snapshot(chunks: u64) -> (tempfile::TempDir, SnapshotKey, Vec<Bytes>) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let mut draw = Draw::new(1);
    let key = store.begin().unwrap();
    let written: Vec<Bytes> = (0..chunks).map(|_| draw.bytes(20_000)).collect();
    for (chunk, bytes) in (0..).zip(&written) {
        store.write(key, chunk, bytes.clone()).unwrap();
    }
    store.commit(key, Bytes::from_static(b"about")).unwrap();
    (folder, key, written)
}

/// Opens the store and reads all of the snapshot.
fn read_all(folder: &Path, key: SnapshotKey, chunks: u64) -> Result<Vec<Bytes>, StorageError> {
    let mut store = Folder::open(folder, b"mine")?.snapshots()?;
    if store.complete()?.len() != 1 {
        return Ok(Vec::new());
    }
    (0..chunks).map(|chunk| store.read(key, chunk)).collect()
}

#[test]
fn a_flipped_bit_is_detected_or_has_no_effect() {
    let (folder, key, written) = folder_with_a_snapshot(5);
    let store = folder.path().join("store");
    let mut found = 0;
    let mut draw = Draw::new(2);
    for name in ["snapshots.index", "snapshots/1/db", "snapshots/1/conf"] {
        let path = store.join(name);
        let whole = fs::read(&path).unwrap();
        for _ in 0..60 {
            // sled changes its files when it opens, so every case starts from the same files.
            let copy = tempfile::tempdir().unwrap();
            copy_all(folder.path(), copy.path());
            let bit = draw.below(whole.len().min(200_000) as u64 * 8) as usize;
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(copy.path().join("store").join(name), bytes).unwrap();
            match read_all(copy.path(), key, 5) {
                Ok(read) => assert_eq!(read, written, "{name}, bit {bit}"),
                Err(StorageError::Damaged { .. }) => found += 1,
                Err(other) => panic!("{name}, bit {bit}: {other}"),
            }
        }
    }
    assert!(found > 60, "only {found} were found");
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_missing_snapshot_is_detected() {
    let (folder, key, _) = folder_with_a_snapshot(2);
    let path = folder.path().join("store/snapshots");
    let open = || Folder::open(&folder, b"mine").unwrap().snapshots();
    fs::remove_file(folder_of(&path, key).join("db")).unwrap();
    let refused = open().unwrap().read(key, 0).unwrap_err().to_string();
    assert!(refused.contains("chunk 0 of snapshot 1 is missing"), "{refused}");
    fs::remove_dir_all(folder_of(&path, key)).unwrap();
    let refused = open().unwrap_err().to_string();
    assert!(refused.contains("snapshot 1 is missing"), "{refused}");
    fs::remove_dir_all(&path).unwrap();
    assert!(open().unwrap_err().to_string().contains("snapshots is damaged: it is missing"));
}

#[test]
fn a_chunk_lost_by_the_database_is_detected() {
    let (folder, key, _) = folder_with_a_snapshot(3);
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let database = store.database(key).unwrap();
    database.remove(row_name(1, 2)).unwrap();
    let refused = store.read(key, 1).unwrap_err().to_string();
    assert!(refused.contains("chunk 1 of snapshot 1 is not what was written"), "{refused}");
    for row in database.scan_prefix(1_u64.to_be_bytes()).keys() {
        database.remove(row.unwrap()).unwrap();
    }
    let refused = store.read(key, 1).unwrap_err().to_string();
    assert!(refused.contains("chunk 1 of snapshot 1 is missing"), "{refused}");
}

#[test]
fn a_misplaced_chunk_is_detected() {
    let (folder, key, _) = folder_with_a_snapshot(3);
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let database = store.database(key).unwrap();
    for row in 0..10 {
        let other = database.get(row_name(0, row)).unwrap();
        let other = other.map_or_else(Vec::new, |part| part.to_vec());
        database.insert(row_name(1, row), other).unwrap();
    }
    let refused = store.read(key, 1).unwrap_err().to_string();
    assert!(refused.contains("chunk 1 of snapshot 1 is not what was written"), "{refused}");
}

#[test]
fn a_rewritten_chunk_replaces_a_longer_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let (key, mut draw) = (store.begin().unwrap(), Draw::new(3));
    for length in [20_000, ROW_BYTES, ROW_BYTES - CHECKSUM, 0, 9000] {
        let bytes = draw.bytes(length);
        store.write(key, 7, bytes.clone()).unwrap();
        assert_eq!(store.read(key, 7), Ok(bytes), "{length}");
    }
}

#[test]
fn chunks_in_one_row_of_the_first_version_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let (key, bytes) = (store.begin().unwrap(), Draw::new(4).bytes(60_000));
    let row = [&bytes[..], &checksum(key, 2, &bytes).to_le_bytes()].concat();
    store.database(key).unwrap().insert(2_u64.to_be_bytes(), row).unwrap();
    assert_eq!(store.read(key, 2), Ok(bytes));
}

#[test]
fn snapshots_in_one_database_are_converted_to_their_own() {
    let (folder, key, written) = folder_with_a_snapshot(3);
    let path = folder.path().join("store/snapshots");
    let one = open_database(&path).unwrap();
    let tree = one.open_tree("snapshot 1").unwrap();
    for (chunk, bytes) in (0..).zip(&written) {
        let content = [&bytes[..], &checksum(key, chunk, bytes).to_le_bytes()].concat();
        for (row, part) in content.chunks(4096).enumerate() {
            tree.insert(row_name(chunk, row), part).unwrap();
        }
    }
    drop((one, tree));
    // Simulates a crash while another row was being copied.
    let begun = open_database(&folder_of(&path, key)).unwrap();
    begun.clear().unwrap();
    begun.insert(row_name(0, 0), "something else").unwrap();
    drop(begun);
    assert_eq!(read_all(folder.path(), key, 3), Ok(written.clone()));
    assert!(!path.join("db").exists());
    assert_eq!(read_all(folder.path(), key, 3), Ok(written));
}

/// Bytes on the disk in all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => size(&entry.path()),
        false => entry.metadata().unwrap().blocks() * 512,
    });
    sizes.sum()
}

/// A store with a complete snapshot of 24 MB, and where it is.
fn store_of_24_mb() -> (tempfile::TempDir, PathBuf, DiskSnapshots, SnapshotKey) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store/snapshots");
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let (key, mut draw) = (store.begin().unwrap(), Draw::new(5));
    for chunk in 0..400 {
        store.write(key, chunk, draw.bytes(60_000)).unwrap();
    }
    store.commit(key, Bytes::new()).unwrap();
    (folder, path, store, key)
}

#[test]
fn a_snapshot_takes_little_more_disk_space_than_its_size() {
    let (_folder, path, ..) = store_of_24_mb();
    let size = size(&path);
    assert!(size < 28_000_000, "{size} bytes for 24,000,000");
}

#[test]
fn removing_a_snapshot_frees_its_disk_space_at_once() {
    let (_folder, path, mut store, key) = store_of_24_mb();
    store.remove(key).unwrap();
    assert_eq!(store.read(key, 0), Err(StorageError::NoSnapshot { key }));
    let size = size(&path);
    assert!(size < 100_000, "{size} bytes are left");
}

#[test]
fn opening_a_store_removes_drafts_from_the_disk() {
    let (folder, path, mut store, key) = store_of_24_mb();
    let draft = store.begin().unwrap();
    store.write(draft, 0, Bytes::from_static(b"lost")).unwrap();
    drop(store);
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    assert_eq!(folders(&path).unwrap(), [(key, folder_of(&path, key))]);
    assert_eq!(store.read(draft, 0), Err(StorageError::NoSnapshot { key: draft }));
}

#[test]
fn a_chunk_far_ahead_inserts_no_rows_for_all_chunks_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = open_database(folder.path()).unwrap();
    let mut draft = Draft { database, chunks: BTreeSet::new(), laid: 0 };
    let laid = [0, 1, 2, 1_000_000, 3, 1_000_001, u64::MAX].map(|chunk| draft.lay(chunk));
    let ahead = CHUNKS_LAID_AHEAD;
    assert_eq!(laid[..4], [0..0, 1..2, 2..4, 1_000_000..1_000_000 + ahead]);
    assert!(laid[4].is_empty());
    assert_eq!(laid[5], 1_000_000 + ahead..1_000_001 + ahead);
    assert_eq!(laid[6].end - laid[6].start, 0);
}
