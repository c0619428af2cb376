use super::tape::Image;
use super::*;
use crate::conformance::Draw;

const RECORDS: u64 = 40;

/// Returns the bytes of a log, the number of its last write, and its content. `closed` is true for
/// a log that was closed properly.
fn bytes_of_a_log(folder: &Path, closed: bool) -> (Vec<u8>, u64, StoredLog) {
    let image = Image::default();
    format_on(image.clone(), &State::new()).unwrap();
    let (mut log, _) = open_on(folder, image.clone(), 1).unwrap();
    let mut draw = Draw::new(1);
    log.write(vec![LogOp::HardState("facts".into())]).unwrap();
    for index in 1..=RECORDS {
        let body = draw.bytes(100 + 60 * index as usize);
        log.write(vec![LogOp::Append(Record { index, head: "head".into(), body })]).unwrap();
    }
    log.write(vec![LogOp::Truncate(RECORDS - 1), LogOp::Compact(3)]).unwrap();
    let (serial, held) = (log.state.serial, log.recover(0).unwrap());
    let before = image.bytes_now();
    drop(log);
    (if closed { image.bytes_now() } else { before }, serial, held)
}

/// Flips this bit, and returns true if that was detected. If not, the content must be complete.
fn found_out(folder: &Path, bytes: &[u8], bit: usize, serial: u64, held: &StoredLog) -> bool {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    match open(folder, bytes, serial) {
        Ok((_, found)) => {
            assert_eq!(&found, held, "bit {bit} was flipped without being detected");
            false
        }
        Err(StorageError::Damaged { .. }) => true,
        Err(other) => panic!("bit {bit}: {other}"),
    }
}

#[test]
fn a_flipped_bit_is_detected_or_has_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    for closed in [true, false] {
        let (bytes, serial, held) = bytes_of_a_log(folder.path(), closed);
        let mut draw = Draw::new(u64::from(closed));
        // Many bits of the header, and some of the rest.
        let header = (0..320 * 8).step_by(7);
        let bits = bytes.len() as u64 * 8;
        let others = (0..cases(200)).map(|_| draw.below(bits) as usize);
        let found = header
            .chain(others)
            .filter(|bit| found_out(folder.path(), &bytes, *bit, serial, &held))
            .count();
        assert!(found > 0);
    }
}

#[test]
fn a_flipped_bit_of_a_record_is_detected_and_the_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, serial, held) = bytes_of_a_log(folder.path(), true);
    let record = &held.records[10];
    let mut frame = vec![0; frame::length(record)];
    frame::encode(record, &mut frame);
    // A copied page leaves an outdated copy; the last one in the file need not be the live one.
    let places: Vec<usize> = bytes
        .windows(frame.len())
        .enumerate()
        .filter_map(|(at, window)| (window == frame).then_some(at))
        .collect();
    let mut damaged = 0;
    for at in places {
        for bit in (at * 8..(at + frame.len()) * 8).step_by(37) {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(folder.path().join(NAME), &bytes).unwrap();
            let Err(error) = open(folder.path(), bytes, serial) else { break };
            damaged += 1;
            let (text, index) = (error.to_string(), record.index);
            let in_its_prefix = bit / 8 < at + 20;
            assert!(
                in_its_prefix || text.contains(&format!("record {index} at byte {at}")),
                "bit {bit}: {text}"
            );
            assert!(text.contains("start this replica with an empty one"), "{text}");
        }
    }
    assert!(damaged > frame.len() * 8 / 37, "the live copy was not among those damaged");
}
