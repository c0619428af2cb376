//! The state of kv in a snapshot. State that is restored must be written again as the same bytes.
#![no_main]

use kv::KvStore;
use libfuzzer_sys::fuzz_target;
use plainsong::{Snapshot, StateMachine};

fuzz_target!(|data: &[u8]| {
    let mut store = KvStore::default();
    if store.restore(&mut &*data).is_ok() {
        let written = bytes_of(&store);
        let mut other = KvStore::default();
        other.restore(&mut &*written).expect("a state that was written can be read");
        assert_eq!(bytes_of(&other), written);
        assert_eq!(other, store);
    }
});

fn bytes_of(machine: &impl StateMachine) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.snapshot().write(&mut bytes).expect("a vector takes it");
    bytes
}
