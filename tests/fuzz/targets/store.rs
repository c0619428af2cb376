#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plainsong_storage::fuzz(data));
