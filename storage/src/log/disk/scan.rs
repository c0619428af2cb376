//! Locates the damage in a log file, using only its frames.

use std::path::Path;

use super::frame::{self, MAGIC, Prefix};

/// Maximum number of records named in an error.
const NAMED: usize = 3;

/// Extends redb's error with the records that do not match their checksums. The file may contain
/// outdated copies of records, and one of those may be the damaged one.
pub(super) fn explain(path: &Path, what: &str) -> String {
    let found = std::fs::read(path).map(|bytes| damaged_records(&bytes));
    let places = match found {
        Err(error) => {
            return format!("{what}; the file cannot be searched for damaged records: {error}");
        }
        Ok(found) if found.is_empty() => {
            return format!("{what}; all records are intact, so the pages around them are damaged");
        }
        Ok(found) => found,
    };
    let named: Vec<String> = places
        .iter()
        .take(NAMED)
        .map(|(index, offset)| format!("record {index} at byte {offset}"))
        .collect();
    let more = places.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{what}; damaged: {}{more}", named.join(", "))
}

/// Returns the index and offset of every frame that begins with the magic and does not match its
/// checksum.
pub(super) fn damaged_records(bytes: &[u8]) -> Vec<(u64, usize)> {
    let mut damaged = Vec::new();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(MAGIC.len()).position(|window| window == MAGIC) {
        at += found;
        let Some(prefix) = Prefix::decode(&bytes[at..]) else { break };
        let frame = bytes.get(at..at + prefix.length);
        if frame.and_then(frame::decode).is_some() {
            at += prefix.length;
        } else {
            damaged.push((prefix.index, at));
            at += MAGIC.len();
        }
    }
    damaged
}
