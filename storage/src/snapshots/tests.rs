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
fn a_flipped_bit_is_found_out_or_without_effect() {
    let (folder, key, written) = folder_with_a_snapshot(5);
    let store = folder.path().join("store");
    let mut found = 0;
    let mut draw = Draw::new(2);
    for name in ["snapshots.index", "snapshots/db", "snapshots/conf"] {
        let path = store.join(name);
        let whole = fs::read(&path).unwrap();
        for _ in 0..60 {
            // sled moves things about when it opens, so every try begins with the same files.
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
fn a_snapshot_that_the_database_lost_is_found_out() {
    let (folder, _, _) = folder_with_a_snapshot(2);
    let path = folder.path().join("store/snapshots");
    fs::remove_dir_all(&path).unwrap();
    let open = || Folder::open(&folder, b"mine").unwrap().snapshots();
    assert!(open().unwrap_err().to_string().contains("snapshots is damaged: it is missing"));
    drop(open_database(&path).unwrap());
    let refused = open().unwrap_err().to_string();
    assert!(refused.contains("snapshot 1 is missing"), "{refused}");
}

#[test]
fn a_chunk_that_the_database_lost_is_found_out() {
    let (folder, key, _) = folder_with_a_snapshot(3);
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let tree = store.tree(key).unwrap();
    tree.remove(row_name(1, 2)).unwrap();
    let refused = store.read(key, 1).unwrap_err().to_string();
    assert!(refused.contains("chunk 1 of snapshot 1 is not what was written"), "{refused}");
    for row in tree.scan_prefix(1_u64.to_be_bytes()).keys() {
        tree.remove(row.unwrap()).unwrap();
    }
    let refused = store.read(key, 1).unwrap_err().to_string();
    assert!(refused.contains("chunk 1 of snapshot 1 is missing"), "{refused}");
}

#[test]
fn a_chunk_that_is_written_again_replaces_the_longer_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let (key, mut draw) = (store.begin().unwrap(), Draw::new(3));
    for length in [20_000, 4096, 4092, 0, 9000] {
        let bytes = draw.bytes(length);
        store.write(key, 7, bytes.clone()).unwrap();
        assert_eq!(store.read(key, 7), Ok(bytes), "{length}");
    }
}

#[test]
fn chunks_in_one_row_as_they_were_at_first_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let (key, bytes) = (store.begin().unwrap(), Draw::new(4).bytes(60_000));
    let row = [&bytes[..], &checksum(key, 2, &bytes).to_le_bytes()].concat();
    store.tree(key).unwrap().insert(2_u64.to_be_bytes(), row).unwrap();
    assert_eq!(store.read(key, 2), Ok(bytes));
}

#[test]
fn a_large_snapshot_is_removed_by_and_by_and_at_the_latest_when_the_store_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    let chunks = 2 * (ROWS_REMOVED_AT_ONCE * ROW_BYTES) as u64 / 60_000;
    let write = |store: &mut DiskSnapshots, chunks| {
        let key = store.begin().unwrap();
        for chunk in 0..chunks {
            store.write(key, chunk, Bytes::from(vec![7; 60_000])).unwrap();
        }
        store.commit(key, Bytes::new()).unwrap();
        key
    };
    let trees = |store: &DiskSnapshots| {
        let names = store.database.tree_names();
        names.iter().filter(|name| name.starts_with(PREFIX)).count()
    };
    let first = write(&mut store, chunks);
    store.remove(first).unwrap();
    assert_eq!((trees(&store), store.complete().unwrap().len()), (1, 0));
    assert_eq!(store.read(first, 0), Err(StorageError::NoSnapshot { key: first }));
    // It is gone before as much was written anew.
    let second = write(&mut store, chunks * 3 / 4);
    assert_eq!(trees(&store), 1);
    store.remove(second).unwrap();
    assert_eq!(trees(&store), 1);
    drop(store);
    let store = Folder::open(&folder, b"mine").unwrap().snapshots().unwrap();
    assert_eq!(trees(&store), 0);
}
