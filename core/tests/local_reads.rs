//! Local reads at one replica with its real threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::held::{self, lock};
use cpg::embedded::LocalRing;
use plainsong::{Consistency, Context, Replica, ReplicaId, StateMachine};

const DEADLINE: Duration = Duration::from_secs(30);
/// A command that [`held::hold`] holds in `apply`.
const WAITS: u64 = 1 << 32;

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Output = u64;

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        if add == WAITS {
            held::pass();
        }
        self.0 += add;
        self.0
    }

    plainsong::snapshot_by_clone!();
}

fn alone() -> Replica<Sum> {
    let builder = Replica::builder(ReplicaId(1), Sum::default());
    let replica =
        builder.transport(LocalRing::new().node()).bootstrap([ReplicaId(1)]).start().unwrap();
    assert_eq!(replica.propose(1).wait_timeout(DEADLINE), Ok(1));
    replica
}

/// Waits until nothing is being applied. Then a local read runs on the calling thread.
fn idle(replica: &Replica<Sum>) {
    let me = thread::current().id();
    let runs_on = || replica.read(Consistency::Local, |_| thread::current().id());
    let end = Instant::now() + DEADLINE;
    while runs_on().wait_timeout(DEADLINE) != Ok(me) {
        assert!(Instant::now() < end, "the replica never became idle");
    }
}

/// A barrier with a timeout.
#[derive(Default)]
struct Barrier(Mutex<u32>, Condvar);

impl Barrier {
    /// Waits for `count` threads. Returns false after the deadline.
    fn is_joined_by(&self, count: u32) -> bool {
        let mut here = lock(&self.0);
        *here += 1;
        self.1.notify_all();
        let waited = self.1.wait_timeout_while(here, DEADLINE, |here| *here < count);
        !waited.unwrap().1.timed_out()
    }
}

#[test]
fn local_reads_run_in_parallel_with_each_other_and_with_linearizable_ones() {
    let replica = alone();
    // The caller is answered slightly before the apply thread is done with the command.
    idle(&replica);
    let barrier = Arc::new(Barrier::default());
    let look = |consistency| {
        let barrier = Arc::clone(&barrier);
        replica.read(consistency, move |_| barrier.is_joined_by(3))
    };
    thread::scope(|scope| {
        let linearizable = look(Consistency::Linearizable);
        // On the apply thread these reads would run one after the other.
        let others: Vec<_> =
            (0..2).map(|_| scope.spawn(|| look(Consistency::Local).wait())).collect();
        assert_eq!(linearizable.wait_timeout(DEADLINE * 2), Ok(true));
        assert!(others.into_iter().all(|other| other.join().unwrap() == Ok(true)));
    });
}

#[test]
fn a_read_requested_during_apply_does_not_block_and_sees_the_command() {
    let replica = alone();
    let (gate, applies) = held::hold();
    let proposed = replica.propose(WAITS);
    applies.recv_timeout(DEADLINE).unwrap();
    // `read` would never return if it waited for the command.
    let reads: Vec<_> = (0..10).map(|_| replica.read(Consistency::Local, |sum| sum.0)).collect();
    drop(gate);
    assert_eq!(proposed.wait_timeout(DEADLINE), Ok(WAITS + 1));
    for read in reads {
        assert_eq!(read.wait_timeout(DEADLINE), Ok(WAITS + 1));
    }
}

/// Sets the flag when dropped, even if the test panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn local_reads_of_one_thread_never_go_back() {
    let replica = alone();
    let is_enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_enough.load(Ordering::Relaxed) {
                drop(replica.propose(1));
            }
        });
        let _set = SetOnDrop(&is_enough);
        let (mut seen, mut changes) = (0, 0);
        while changes < 1000 {
            let some: Vec<_> =
                (0..64).map(|_| replica.read(Consistency::Local, |sum| sum.0)).collect();
            for read in some {
                let sees = read.wait_timeout(DEADLINE).unwrap();
                assert!(sees >= seen, "{sees} after {seen}");
                changes += u32::from(sees > seen);
                seen = sees;
            }
        }
    });
}
