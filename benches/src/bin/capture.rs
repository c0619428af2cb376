//! Measures how long taking and restoring a snapshot stops the state machine of `kv`.
//!
//! `cargo run --release -p plainsong-benches --bin capture [KEYS [BYTES]]`

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::KvStore;
use kv::command::{Command, Condition, Expiry};
use plainsong::{Context, Index, Snapshot, StateMachine, Timestamp};

fn set(number: u64, bytes: usize) -> Command {
    Command::Set {
        key: format!("key:{number:012}").into(),
        value: Bytes::from(vec![number as u8; bytes]),
        condition: Condition::Always,
        expiry: Expiry::Never,
        get: false,
    }
}

/// Sets keys all over the store, and returns the time of each write.
fn write(store: &mut KvStore, keys: u64, bytes: usize, count: u64) -> Vec<Duration> {
    let spread = (0..count).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys);
    let commands: Vec<Command> = spread.map(|number| set(number, bytes)).collect();
    let took = commands.into_iter().map(|command| {
        let began = Instant::now();
        black_box(store.apply(&Context::new(Index(1), Timestamp(1)), command.into()));
        began.elapsed()
    });
    took.collect()
}

fn tell(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let (count, all) = (took.len(), took.iter().sum::<Duration>());
    let (p99, longest) = (took[count * 99 / 100], took[count - 1]);
    println!("{what}: {count} writes in {all:.1?}, p99 {p99:.1?}, longest {longest:.1?}");
}

fn main() -> io::Result<()> {
    let number = |at: usize| std::env::args().nth(at).and_then(|text| text.parse().ok());
    let (keys, bytes) = (number(1).unwrap_or(1_000_000), number(2).unwrap_or(100) as usize);
    let mut store = KvStore::default();
    (0..keys).for_each(|number| {
        drop(store.apply(&Context::new(Index(1), Timestamp(1)), set(number, bytes).into()))
    });
    println!("{keys} keys of {bytes} bytes");
    const WRITES: u64 = 100_000;
    tell("before a capture", write(&mut store, keys, bytes, WRITES));
    // After many small blocks were freed, the first larger allocation makes the allocator merge
    // them. That time does not belong to the snapshot.
    let began = Instant::now();
    drop(black_box(Vec::<u8>::with_capacity(32 << 10)));
    println!("an allocation of 32 KiB: {:.1?}", began.elapsed());
    let began = Instant::now();
    let view = store.snapshot();
    println!("capture: {:.1?}", began.elapsed());
    tell("after it", write(&mut store, keys, bytes, WRITES));
    let (began, mut written) = (Instant::now(), Vec::new());
    view.write(&mut written)?;
    println!("written by another thread: {} bytes in {:.1?}", written.len(), began.elapsed());
    tell("after that", write(&mut store, keys, bytes, WRITES));
    let began = Instant::now();
    store.restore(&mut written.as_slice())?;
    println!("restore: {:.1?}", began.elapsed());
    Ok(())
}
