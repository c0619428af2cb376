//! Clients that write, and record which writes were acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use super::{Serve, TestClient, text, until};

const WRITERS: usize = 4;

/// The record of one client.
#[derive(Default)]
pub struct Record {
    /// The keys that were set, and their values.
    pub set: BTreeMap<String, String>,
    pub added: u64,
    /// Number of additions with an unknown outcome.
    pub maybe_added: u64,
}

pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Record>>,
}

impl Load {
    /// Starts clients that write values of about this many bytes.
    pub fn start(addresses: Vec<SocketAddr>, bytes: usize) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        // Numbers the runs, so that no key is written twice and no lost write is hidden by another.
        let run = RUNS.fetch_add(1, Ordering::SeqCst);
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writers = (0..WRITERS).map(|number| {
            let (addresses, stop) = (addresses.clone(), Arc::clone(&stop));
            let acknowledged = Arc::clone(&acknowledged);
            let writer = Writer { number, run, bytes, stop, acknowledged };
            thread::spawn(move || writer.run(&addresses))
        });
        let writers = writers.collect();
        Self { stop, acknowledged, writers }
    }

    /// Waits until this many more writes are acknowledged.
    #[track_caller]
    pub fn wait_for_writes(&self, writes: u64) {
        let goal = self.acknowledged.load(Ordering::SeqCst) + writes;
        let reached = || (self.acknowledged.load(Ordering::SeqCst) >= goal).then_some(());
        until("more acknowledged writes", reached);
    }

    pub fn end(self) -> Vec<Record> {
        self.stop.store(true, Ordering::SeqCst);
        self.writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    }
}

struct Writer {
    number: usize,
    run: u64,
    bytes: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Writer {
    fn run(&self, addresses: &[SocketAddr]) -> Record {
        let Self { number, run, .. } = self;
        let mut record = Record::default();
        let (mut at, mut step) = (*number, 0);
        while !self.stop.load(Ordering::SeqCst) {
            at += 1;
            let Ok(mut client) = TestClient::connect(addresses[at % addresses.len()]) else {
                continue;
            };
            // Writes until an error, and then continues at the next replica.
            while !self.stop.load(Ordering::SeqCst) {
                step += 1;
                let key = format!("{run}:{number}:{step}");
                if !self.write(&mut client, key, &mut record) {
                    break;
                }
            }
        }
        record
    }

    /// Returns true if the write was acknowledged.
    fn write(&self, client: &mut TestClient, key: String, record: &mut Record) -> bool {
        let value = format!("{key}{:.>1$}", "", self.bytes);
        match client.call(&["SET", &key, &value]) {
            Ok(reply) if text(&reply) == "OK" => record.set.insert(key, value),
            _ => return false,
        };
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        let counter = format!("counter:{}", self.number);
        let reply = client.call(&["INCR", &counter]).map(|reply| text(&reply));
        match reply.as_deref() {
            Ok(sum) if sum.starts_with(':') => {
                record.added += 1;
                true
            }
            // The write has certainly not taken effect.
            Ok(error) if error.starts_with("-CLUSTERDOWN") => false,
            _ => {
                record.maybe_added += 1;
                false
            }
        }
    }
}

/// Checks that every key that was set exists.
#[track_caller]
pub fn check_set(replica: &Serve, record: &Record) {
    let mut client = replica.client();
    for (key, value) in &record.set {
        let found = client.ask(&format!("GET {key}"));
        assert!(found == format!("\"{value}\""), "{key} is {found:.80}");
    }
}

/// Checks that every acknowledged write is present and that no addition was applied twice.
#[track_caller]
pub fn check(replica: &Serve, records: &[Record]) {
    let mut client = replica.client();
    for (number, record) in records.iter().enumerate() {
        check_set(replica, record);
        let sum = client.ask(&format!("GET counter:{number}"));
        let sum: u64 = sum.trim_matches('"').parse().unwrap_or_else(|_| panic!("{sum}"));
        let range = record.added..=record.added + record.maybe_added;
        assert!(range.contains(&sum), "{sum} additions are not in {range:?}");
        assert!(!record.set.is_empty() && record.added > 0, "a writer has no acknowledged writes");
    }
}

/// Merges the records of the same writers from several runs.
pub fn together(runs: &[Vec<Record>]) -> Vec<Record> {
    let mut all: Vec<Record> = (0..WRITERS).map(|_| Record::default()).collect();
    for (whole, part) in runs.iter().flat_map(|run| run.iter().enumerate()) {
        let whole = &mut all[whole];
        whole.set.extend(part.set.clone());
        whole.added += part.added;
        whole.maybe_added += part.maybe_added;
    }
    all
}
