//! Where a damaged log is damaged, found by its own frames.

use std::path::Path;

use super::frame::{self, MAGIC, Prefix};

/// Named at most.
const NAMED: usize = 3;

/// What redb said of a file, and which records in it are not what was written. A file keeps
/// old copies of records for a while, so a record may be named because of one of those.
pub(super) fn explain(path: &Path, what: &str) -> String {
    let found = std::fs::read(path).map(|bytes| damaged_records(&bytes));
    let places = match found {
        Err(error) => return format!("{what}; it cannot be searched: {error}"),
        Ok(found) if found.is_empty() => {
            return format!("{what}; no record in it is damaged, so the pages around them are");
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
    format!("{what}; not what was written: {}{more}", named.join(", "))
}

/// Index and place of every record that begins like one and does not fit its checksum.
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
