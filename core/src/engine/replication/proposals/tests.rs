use super::*;
use crate::Timestamp;
use crate::wire::entry::EntryPayload;
use crate::wire::types::{Ballot, Nonce, ReplicaId};

const ME: Incarnation = Incarnation { replica: ReplicaId(1), nonce: Nonce(9) };

/// Returns proposals with three batches in flight, of one caller each.
fn under_way() -> Proposals<u32> {
    let mut proposals = Proposals::default();
    proposals.get_in_sync(ME, &Log::default());
    for caller in 1..=3 {
        proposals.queue(caller, Bytes::from_static(b"a command"), None);
        proposals.fill(100, Duration::ZERO).unwrap();
    }
    proposals
}

/// Returns a log that ends with a batch of this replica.
fn log_with(counter: u64, nonce: u64, number: u64) -> Log {
    let mut log = Log::default();
    let origin = Origin { replica: ME.replica, counter, nonce: Nonce(nonce) };
    let kind = BatchKind::Application;
    let batch = Batch { origin, number, kind, count: 0, commands: Bytes::new() };
    log.append(Ballot::default(), Timestamp(0), EntryPayload::Batch(batch));
    log
}

#[test]
fn n1_a_batch_waits_until_it_is_as_large_as_all_in_flight() {
    let mut proposals = Proposals::default();
    proposals.get_in_sync(ME, &Log::default());
    let mut sizes = Vec::new();
    let send = |proposals: &mut Proposals<u32>, bytes_max| {
        let due = proposals.is_due(bytes_max, 4);
        let batch = due.then(|| proposals.fill(bytes_max, Duration::ZERO)).flatten();
        batch.map(|batch| batch.count)
    };
    for caller in 0..16 {
        proposals.queue(caller, Bytes::from_static(b"a command"), None);
        sizes.extend(send(&mut proposals, 1000));
    }
    // The last eight wait, since four are in flight already.
    assert_eq!(sizes, [1, 1, 2, 4]);
    let first = proposals.sent[0].batch.clone();
    proposals.committed(&first).unwrap();
    assert_eq!(send(&mut proposals, 1000), Some(8));
    proposals.sent.truncate(1);
    proposals.sent[0].batch.count = 100;
    proposals.queue(16, Bytes::from_static(b"a command"), None);
    assert_eq!(send(&mut proposals, 1000), None, "one command, with a hundred in flight");
    assert_eq!(send(&mut proposals, 13), Some(1), "a full batch");
}

#[test]
fn n1_full_batches_are_sent_at_once_and_few_are_in_flight() {
    let mut proposals = Proposals::default();
    proposals.get_in_sync(ME, &Log::default());
    (0..16).for_each(|caller| proposals.queue(caller, Bytes::from_static(b"a command"), None));
    while proposals.is_due(13, 100) {
        assert_eq!(proposals.fill(13, Duration::ZERO).unwrap().count, 1);
    }
    assert_eq!(proposals.sent.len(), FULL_IN_FLIGHT + 1);
}

#[test]
fn n1_late_batches_are_sent_again_unless_the_ring_is_only_slow() {
    let second = Duration::from_secs;
    let mut proposals = under_way();
    let numbers = |proposals: &mut Proposals<u32>, now| {
        let overdue = proposals.overdue(now, second(1), &Outbox::default());
        overdue.iter().map(|batch| batch.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&mut proposals, second(1)), []);
    let first = proposals.sent[0].batch.clone();
    proposals.heard(&first, second(2));
    proposals.ordered = 1;
    assert_eq!(numbers(&mut proposals, second(3)), []);
    // A second copy says nothing about the other batches.
    proposals.heard(&first, second(3));
    assert_eq!(numbers(&mut proposals, second(4)), [2, 3]);
    assert_eq!(numbers(&mut proposals, second(4)), []);
    // A new epoch sends again at once.
    proposals.heard_at = second(4);
    proposals.get_in_sync(ME, &Log::default());
    assert_eq!(numbers(&mut proposals, second(4)), [1, 2, 3]);
}

#[test]
fn n12_batches_queued_in_the_transport_are_not_sent_again() {
    let second = Duration::from_secs;
    let mut proposals = under_way();
    let mut outbox = Outbox::default();
    let numbers = |proposals: &mut Proposals<u32>, outbox: &Outbox, now| {
        let overdue = proposals.overdue(now, second(1), outbox);
        overdue.iter().map(|batch| batch.number).collect::<Vec<_>>()
    };
    (0..3).for_each(|_| outbox.add(100, Duration::ZERO));
    outbox.report(3, 300, second(1));
    assert_eq!(numbers(&mut proposals, &outbox, second(500)), []);
    // Not in a new epoch either.
    proposals.get_in_sync(ME, &Log::default());
    assert_eq!(numbers(&mut proposals, &outbox, second(501)), []);
    outbox.report(0, 0, second(600));
    assert_eq!(numbers(&mut proposals, &outbox, second(600)), [1, 2, 3]);
    // The timeout counts from when the transport took them.
    (0..3).for_each(|_| outbox.add(100, second(600)));
    outbox.report(3, 300, second(600));
    outbox.report(0, 0, second(700));
    assert_eq!(numbers(&mut proposals, &outbox, second(701)), []);
    assert_eq!(numbers(&mut proposals, &outbox, second(702)), [1, 2, 3]);
}

#[test]
fn n10_deadlines_withdraw_unsent_commands_and_leave_sent_ones_in_flight() {
    let at = |seconds| Some(Duration::from_secs(seconds));
    let mut proposals = Proposals::default();
    proposals.get_in_sync(ME, &Log::default());
    for (caller, deadline) in [(1, at(1)), (2, at(2)), (3, None), (4, at(1)), (5, at(3))] {
        proposals.queue(caller, Bytes::from_static(b"a command"), deadline);
        if caller % 2 == 0 {
            // Commands one and two share a batch, three and four too; five stays queued.
            proposals.fill(100, Duration::ZERO).unwrap();
        }
    }
    let expired =
        |proposals: &mut Proposals<u32>, seconds| proposals.expire(Duration::from_secs(seconds));
    assert_eq!(
        expired(&mut proposals, 1),
        (vec![], vec![]),
        "only once all deadlines of a batch have passed"
    );
    assert_eq!(expired(&mut proposals, 2), (vec![], vec![1, 2]));
    assert_eq!(
        expired(&mut proposals, 9),
        (vec![5], vec![]),
        "one caller of the batch has no deadline"
    );
    assert_eq!(
        (proposals.queued_bytes(), proposals.settled()),
        (0, 0),
        "both batches stay in flight"
    );
}

fn overtaken(log: &Log) -> (Vec<u32>, Vec<u32>, usize, usize) {
    let mut proposals = under_way();
    let Overtaken { taken, unknown, .. } = proposals.overtaken(log);
    (taken, unknown, proposals.sent.len(), proposals.queue.len())
}

#[test]
fn n10_a_snapshot_settles_its_batches_and_leaves_the_rest_in_flight() {
    assert_eq!(overtaken(&Log::default()), (vec![], vec![], 3, 0));
    assert_eq!(overtaken(&log_with(1, 9, 2)), (vec![1, 2], vec![], 1, 0));
    // An earlier run used the number: nothing of this run was ordered.
    assert_eq!(overtaken(&log_with(1, 5, 7)), (vec![], vec![], 0, 3));
    assert_eq!(overtaken(&log_with(2, 5, 7)), (vec![], vec![1, 2, 3], 0, 0));
}
