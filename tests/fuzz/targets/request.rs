//! Requests of clients of the programs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use service_lib::resp::{Decoder, Limits};

const LIMITS: Limits = Limits { arguments_max: 64, line_bytes_max: 256, request_bytes_max: 4096 };

// The first byte selects how the rest is split into reads, as by a socket.
fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else { return };
    let mut decoder = Decoder::new(LIMITS);
    for part in data.chunks(usize::from(*cut).max(1)) {
        decoder.buffer().extend_from_slice(part);
        loop {
            match decoder.request() {
                Ok(Some(words)) => {
                    assert!(!words.is_empty() && words.len() <= LIMITS.arguments_max);
                    parse(words);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(decoder.buffer().len() <= LIMITS.request_bytes_max + part.len());
    }
});

fn parse(words: Vec<bytes::Bytes>) {
    let _ = lock::request::Request::parse(&words);
    if let Some(entry) = kv::request::find(&words[0])
        && entry.takes(words.len())
        && let kv::request::Kind::Asked(parse) = entry.kind
    {
        let _ = parse(entry.name, words);
    }
}
