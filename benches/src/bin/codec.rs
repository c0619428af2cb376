//! Measures the cost of commands in frames: encoding, batching and framing with a checksum; then
//! checking, decoding and passing on. For comparison, copying the same number of bytes, the minimum
//! that any program does.
//!
//! `benches/run codec [SECONDS]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use plainsong::testing::BatchFrame;
use plainsong_benches::{Put, Series};

/// Maximum size of a batch, and the size of the length before each command.
const BATCH_BYTES: usize = 63 << 10;
const LENGTH_BYTES: usize = 4;
/// Number of rounds of each measurement.
const ROUNDS: u32 = 9;

/// Returns the nanoseconds per command, where one call processes `count` commands and is repeated
/// for the given time.
fn nanoseconds(time: Duration, count: usize, mut work: impl FnMut()) -> f64 {
    let (began, mut calls) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        (0..16).for_each(|_| work());
        calls += 16;
    }
    began.elapsed().as_nanos() as f64 / f64::from(calls) / count as f64
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let turn = Duration::from_secs_f64(seconds) / ROUNDS;
    println!("nanoseconds per command: median (lowest to highest), in batches of up to 63 KiB\n");
    println!("| bytes | in a batch | encode and frame | check and decode | copy |");
    println!("| --- | --- | --- | --- | --- |");
    let value = Bytes::from(vec![7; 16 << 10]);
    for bytes in [16, 64, 256, 1024, 16 << 10] {
        for count in [1, BATCH_BYTES / (bytes + LENGTH_BYTES)] {
            let commands: Vec<Put> =
                (0..count as u64).map(|key| Put::of(key, &value, bytes)).collect();
            let frame = BatchFrame::new(&commands, count * (bytes + LENGTH_BYTES)).bytes();
            let (mut encode, mut decode, mut copy) =
                (Series::default(), Series::default(), Series::default());
            for _ in 0..ROUNDS {
                encode.push(nanoseconds(turn, count, || {
                    black_box(BatchFrame::new(&commands, count * (bytes + LENGTH_BYTES)));
                }));
                decode.push(nanoseconds(turn, count, || {
                    let read = BatchFrame::read(&frame, |put: Put| drop(black_box(put)));
                    assert!(read.is_ok(), "{read:?}");
                }));
                copy.push(nanoseconds(turn, count, || {
                    black_box(frame.to_vec());
                }));
            }
            println!("| {bytes} | {count} | {encode} | {decode} | {copy} |");
        }
    }
}
