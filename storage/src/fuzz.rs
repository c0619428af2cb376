use crate::{log, snapshots};

/// Entry point of a fuzzer. Decodes `data` as everything that this crate itself reads from a
/// folder, both as it is and with a correct checksum appended, which no fuzzer would find.
pub fn fuzz(data: &[u8]) {
    let sum = crc32c::crc32c(data).to_le_bytes();
    for bytes in [data, &[data, &sum].concat()] {
        log::fuzz(bytes);
        snapshots::fuzz(bytes);
    }
}
