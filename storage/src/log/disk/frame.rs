//! Format of a record in the file. A frame can be found and checked without its context.
//!
//! | bytes | content |
//! | --- | --- |
//! | 4 | magic `PSLR` |
//! | 4 | length of the head |
//! | 4 | length of the body |
//! | 8 | index |
//! | | head, body |
//! | 4 | CRC32C of everything before |

use bytes::Bytes;

use crate::Record;

pub(super) const MAGIC: &[u8; 4] = b"PSLR";
const PREFIX: usize = 20;
const CHECKSUM: usize = 4;

pub(super) fn length(record: &Record) -> usize {
    PREFIX + record.head.len() + record.body.len() + CHECKSUM
}

/// Writes the frame to `into`, whose length must be that of the frame.
pub(super) fn encode(record: &Record, into: &mut [u8]) {
    let lengths = [record.head.len() as u32, record.body.len() as u32].map(u32::to_le_bytes);
    let index = record.index.to_le_bytes();
    let parts = [&MAGIC[..], &lengths[0], &lengths[1], &index, &record.head, &record.body];
    let mut at = 0;
    for part in parts {
        into[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let checksum = crc32c::crc32c(&into[..at]);
    into[at..].copy_from_slice(&checksum.to_le_bytes());
}

/// Decodes a frame of exactly these bytes; `None` if it does not match its checksum or length.
pub(super) fn decode(frame: &[u8]) -> Option<Record> {
    let (bytes, checksum) = frame.split_last_chunk()?;
    let Prefix { index, head, length } = Prefix::decode(frame)?;
    if length != frame.len() || crc32c::crc32c(bytes) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let content = Bytes::copy_from_slice(bytes.get(PREFIX..)?);
    Some(Record { index, head: content.slice(..head), body: content.slice(head..) })
}

/// The fields at the start of a frame.
pub(super) struct Prefix {
    pub(super) index: u64,
    /// Length of the head.
    head: usize,
    /// Length of the frame.
    pub(super) length: usize,
}

impl Prefix {
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (head, rest) = rest.split_first_chunk()?;
        let (body, rest) = rest.split_first_chunk()?;
        let index = u64::from_le_bytes(*rest.first_chunk()?);
        let [head, body] = [*head, *body].map(|length| u32::from_le_bytes(length) as usize);
        Some(Self { index, head, length: PREFIX + head + body + CHECKSUM })
    }
}
