//! What fuzzers feed: everything that is decoded from the group or from a store. A property that
//! does not hold panics.

use bytes::Bytes;
use plainsong_storage::Record;

use crate::engine::HardState;
use crate::record;
use crate::snapshot::{SnapshotHead, SnapshotName};
use crate::wire::codec;

/// A frame as it comes from the group, and, as no fuzzer guesses a checksum, one whose kind,
/// body and commands are taken from `data` and whose header is right.
pub fn frame(data: &[u8]) {
    let _ = codec::decode_frame(&Bytes::copy_from_slice(data));
    let Some(([kind, body @ ..], rest)) = data.split_first_chunk::<3>() else { return };
    let body = rest.len().min(u16::from_le_bytes(*body).into());
    let (body, commands) = rest.split_at(body);
    let frame = codec::forged(u16::from(*kind), body, commands);
    if let Ok(codec::Decoded { application, cluster, message }) = codec::decode_frame(&frame) {
        let again = codec::Frame::new(application, cluster, &message).bytes();
        assert_eq!(again, frame, "there is one way to write {message:?}");
    }
}

/// A record of the log, the hard state, and what stands in a store beside a snapshot and at
/// its beginning.
pub fn record(data: &[u8]) {
    let _ = codec::decode::<HardState>(data);
    let _ = codec::decode::<SnapshotName>(data);
    let _ = codec::decode::<SnapshotHead>(data);
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let bytes = Bytes::copy_from_slice(rest);
    let head = bytes.slice(..bytes.len().min(u16::from_le_bytes(*length).into()));
    let body = bytes.slice(head.len()..);
    if let Ok(entry) = record::decode(Record { index: 1, head: head.clone(), body: body.clone() }) {
        assert_eq!(record::head(&entry).ok(), Some(head), "there is one way to write {entry:?}");
        assert_eq!(entry.payload.commands(), body);
    }
}
