use super::*;
use crate::wire::entry::{
    Batch, BatchHead, BatchKind, Entry, EntryHead, EntryPayload, MembersChanged,
};
use crate::wire::message::{
    Announce, Fetch, Mark, Marked, Marks, Missing, Offer, Offered, Open, Progress, Read, Received,
    Report,
};
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::Timestamp;
use crate::wire::types::{
    Ballot, Digest, Incarnation, Index, Nonce, Origin, Position, ReplicaId, StoreId, Voter, Voters,
};

fn messages() -> Vec<Message> {
    let ballot = Ballot { counter: 3, replica: 1, nonce: Nonce(9) };
    let incarnation = Incarnation { replica: ReplicaId(1), nonce: Nonce(9) };
    let store = StoreId(4);
    let last = Position { epoch: ballot, index: Index(17) };
    let name = SnapshotName { position: last, digest: Digest(6), bytes: 1 << 20 };
    let voter = Voter { replica: ReplicaId(1), store };
    let voters = Voters { now: vec![voter], previous: vec![voter], since: Index(1) };
    let history = vec![(ballot, Index(1))];
    let origin = Origin { replica: ReplicaId(1), counter: 2, nonce: Nonce(9) };
    let notice = MembersChanged { joined: vec![incarnation, incarnation], left: vec![incarnation] };
    let marked =
        [Marked::Batch { origin, number: 5 }, Marked::Notice(notice.clone()), Marked::Time];
    let entries = marked.map(|what| Mark { time: Timestamp(1), what }).to_vec();
    for mark in &entries {
        assert!(encode(mark).unwrap().len() <= mark.bytes(), "{mark:?}");
    }
    let marks = Marks { first: Index(3), entries, digest: Digest(5) };
    let progress = Progress {
        epoch: ballot,
        incarnation,
        store,
        marks: Some(marks),
        acked: Index(2),
        applied: Index(1),
        echo: vec![(Nonce(1), 2), (Nonce(3), 4)],
        promised: ballot,
    };
    let commands = Bytes::from_static(b"\x02\0\0\0hi\0\0\0\0");
    let batch = Batch { origin, number: 5, kind: BatchKind::Application, count: 2, commands };
    let entries = [
        EntryPayload::EpochStart(voters.clone()),
        EntryPayload::Batch(batch.clone()),
        EntryPayload::Notice(notice),
        EntryPayload::Time,
    ]
    .map(|payload| Entry::new(Digest(1), last, Timestamp(2), payload));
    vec![
        Message::Announce(Announce {
            incarnation,
            store,
            last,
            promised: ballot,
            first_kept: Index(4),
            snapshots: vec![name],
            first: true,
            refused: Some(Nonce(1)),
            application: "counter".into(),
        }),
        Message::Begin(ballot),
        Message::Report(Report {
            ballot,
            incarnation,
            store,
            last,
            digest: Digest(1),
            time: Timestamp(2),
            knows_time: true,
            commit: Index(3),
            first_kept: Index(1),
            history: history.clone(),
            voters: voters.clone(),
        }),
        Message::Open(Open {
            ballot,
            base: last,
            digest: Digest(1),
            history,
            sequencer: incarnation,
            voters,
            time: Timestamp(2),
        }),
        Message::Batch(batch.clone(), Some(progress.clone())),
        Message::Batch(batch, None),
        Message::Progress(progress),
        Message::Read(Read { epoch: ballot, incarnation, round: 7 }),
        Message::Fetch(Fetch { epoch: ballot, incarnation, missing: Missing::Open }),
        Message::Fetch(Fetch {
            epoch: ballot,
            incarnation,
            missing: Missing::Entries {
                after: last,
                digest: Digest(2),
                donor: Some(incarnation),
                partial: Some(name),
            },
        }),
        Message::Offer(Offer {
            epoch: ballot,
            laggards: vec![incarnation],
            donor: incarnation,
            what: Offered::Snapshot(name),
        }),
        Message::Chunk(Chunk {
            name,
            number: 3,
            donor: incarnation,
            sent: 9,
            bytes: Bytes::from_static(b"some bytes of a state"),
        }),
        Message::Received(Received {
            incarnation,
            name,
            donor: incarnation,
            seen: 8,
            gap: Some((4, 9)),
            missing: 7,
        }),
        Message::Entries(Entries {
            epoch: ballot,
            first: Index(16),
            entries: entries.iter().map(|e| (EntryHead::of(e), e.payload.commands())).collect(),
            digest: Digest(3),
            more: true,
        }),
    ]
}

#[test]
fn every_message_round_trips() {
    for message in messages() {
        for cluster in [None, Some(ClusterId(7))] {
            for application in [ApplicationId::of(""), ApplicationId::of("counter")] {
                let frame = Frame::new(application, cluster, &message).bytes();
                let message = message.clone();
                assert_eq!(decode_frame(&frame), Ok(Decoded { application, cluster, message }));
            }
        }
    }
}

#[test]
fn frames_with_a_flipped_bit_are_rejected() {
    for message in messages() {
        let frame = Frame::new(ApplicationId(5), Some(ClusterId(7)), &message).bytes();
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_frame(&damaged.into()).is_err(), "bit {bit} of {message:?}");
        }
    }
}

#[test]
fn truncated_and_extended_frames_are_rejected() {
    for message in messages() {
        let frame = Frame::new(ApplicationId(0), None, &message).bytes();
        for length in 0..frame.len() {
            assert!(decode_frame(&frame.slice(..length)).is_err(), "{length} of {message:?}");
        }
        let mut longer = frame.to_vec();
        longer.push(0);
        let length = longer.len();
        assert_eq!(decode_frame(&longer.into()), Err(DecodeError::Length(length)));
    }
}

#[test]
fn the_error_names_an_unknown_version() {
    let mut frame = Frame::new(ApplicationId(0), None, &messages()[0]).bytes().to_vec();
    frame[4] = VERSION as u8 + 1;
    assert_eq!(decode_frame(&frame.into()), Err(DecodeError::Version { found: VERSION + 1 }));
}

#[test]
fn forged_frames_are_rejected_without_a_panic() {
    assert_eq!(decode_frame(&forged(99, &[], &[])), Err(DecodeError::Kind(99)));
    for kind in 1..=12 {
        for body in [&[][..], &[0xff; 7], &[0xff; 64], &[0; 4096]] {
            assert!(matches!(
                decode_frame(&forged(kind, body, &[])),
                Err(DecodeError::Body { .. })
            ));
        }
    }
    let begin = encode(&Ballot::default()).unwrap();
    assert!(matches!(
        decode_frame(&forged(2, &begin, b"x")),
        Err(DecodeError::Body { kind: 2, .. })
    ));
    let origin = Origin { replica: ReplicaId(1), counter: 1, nonce: Nonce(1) };
    let head = BatchHead { origin, number: 1, kind: BatchKind::Application, count: 3 };
    let batch = encode(&BatchMessage { head, progress: None }).unwrap();
    assert!(matches!(
        decode_frame(&forged(5, &batch, b"\x01\0\0\0x")),
        Err(DecodeError::Body { kind: 5, .. })
    ));
}
