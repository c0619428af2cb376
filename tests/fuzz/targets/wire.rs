#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cpg::embedded::fuzz(data));
