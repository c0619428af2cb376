use crate::{log, snapshots};

/// What a fuzzer feeds: everything that is decoded from a folder by this crate itself, as it is
/// and with a checksum that fits, which no fuzzer guesses.
pub fn fuzz(data: &[u8]) {
    let sum = crc32c::crc32c(data).to_le_bytes();
    for bytes in [data, &[data, &sum].concat()] {
        log::fuzz(bytes);
        snapshots::fuzz(bytes);
    }
}
