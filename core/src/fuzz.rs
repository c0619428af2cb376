//! Entry points for fuzzers: the decoders of all data that comes from the group or from a store.
//! Each panics if a property is violated.

use bytes::Bytes;
use plainsong_storage::Record;

use crate::engine::HardState;
use crate::record;
use crate::snapshot::{SnapshotHead, SnapshotName};
use crate::wire::codec;

/// Decodes `data` as a frame. Then builds a frame with a valid header from a kind, a body and
/// commands in `data`, because no fuzzer guesses a checksum, and decodes that.
pub fn frame(data: &[u8]) {
    let _ = codec::decode_frame(&Bytes::copy_from_slice(data));
    let Some(([kind, body @ ..], rest)) = data.split_first_chunk::<3>() else { return };
    let body = rest.len().min(u16::from_le_bytes(*body).into());
    let (body, commands) = rest.split_at(body);
    let frame = codec::forged(u16::from(*kind), body, commands);
    if let Ok(codec::Decoded { application, cluster, message }) = codec::decode_frame(&frame) {
        let again = codec::Frame::new(application, cluster, &message).bytes();
        assert_eq!(again, frame, "{message:?} has more than one encoding");
    }
}

/// Decodes `data` as the hard state, as the name and the head of a snapshot, and as a record of the
/// log.
pub fn record(data: &[u8]) {
    let _ = codec::decode::<HardState>(data);
    let _ = codec::decode::<SnapshotName>(data);
    let _ = codec::decode::<SnapshotHead>(data);
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let bytes = Bytes::copy_from_slice(rest);
    let head = bytes.slice(..bytes.len().min(u16::from_le_bytes(*length).into()));
    let body = bytes.slice(head.len()..);
    if let Ok(entry) = record::decode(Record { index: 1, head: head.clone(), body: body.clone() }) {
        assert_eq!(record::head(&entry).ok(), Some(head), "{entry:?} has more than one encoding");
        assert_eq!(entry.payload.commands(), body);
    }
}
