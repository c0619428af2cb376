//! The reasons to stop are for people to read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use plainsong::engine::{Config, Engine, Input, Now, Output};
use plainsong::{Incarnation, Nonce, ReplicaId, StopReason, StoreId};

#[test]
fn a_replica_that_cannot_write_stops_and_says_why() {
    let incarnation = Incarnation { replica: ReplicaId(1), nonce: Nonce(1) };
    let config = Config::new(incarnation, StoreId(1), vec![ReplicaId(1)]);
    let mut engine: Engine<u64> = Engine::new(config, Now::default());
    let mut out = Vec::new();
    engine.step(Now::default(), Input::WriteFailed { reason: "disk full".into() }, &mut out);
    assert!(matches!(out.last(), Some(Output::Stop)));
    assert_eq!(engine.status().stopped, Some(StopReason::WriteFailed("disk full".into())));
    out.clear();
    let command = Bytes::new();
    engine.step(Now::default(), Input::Propose { ticket: 7, command, deadline: None }, &mut out);
    assert!(
        matches!(&out[..], [Output::Fail { tickets, may_take_effect: false }] if *tickets == [7])
    );
}
