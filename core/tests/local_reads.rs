//! Reads of the state as it is at one replica, with its real threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cpg::embedded::LocalRing;
use plainsong::{Consistency, Context, Replica, ReplicaId, StateMachine};

const DEADLINE: Duration = Duration::from_secs(30);
/// Applied when [`GATE`] is open, and not before.
const WAITS: u64 = 1 << 32;

static GATE: Mutex<()> = Mutex::new(());
static APPLYING: Mutex<Option<mpsc::Sender<()>>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Output = u64;

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        if add == WAITS {
            let told = lock(&APPLYING).take();
            told.unwrap().send(()).unwrap();
            drop(lock(&GATE));
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

/// Waits until nothing is being applied: then a local read runs on the thread that asks.
fn idle(replica: &Replica<Sum>) {
    let me = thread::current().id();
    let runs_on = || replica.read(Consistency::Local, |_| thread::current().id());
    let end = Instant::now() + DEADLINE;
    while runs_on().wait_timeout(DEADLINE) != Ok(me) {
        assert!(Instant::now() < end, "it never was");
    }
}

/// Those who are here at the same time.
#[derive(Default)]
struct Meeting(Mutex<u32>, Condvar);

impl Meeting {
    /// Whether so many have come.
    fn is_joined_by(&self, count: u32) -> bool {
        let mut here = lock(&self.0);
        *here += 1;
        self.1.notify_all();
        let waited = self.1.wait_timeout_while(here, DEADLINE, |here| *here < count);
        !waited.unwrap().1.timed_out()
    }
}

#[test]
fn local_reads_run_beside_each_other_and_beside_linearizable_ones() {
    let replica = alone();
    // Whoever proposed is answered a moment before its command is done with.
    idle(&replica);
    let meeting = Arc::new(Meeting::default());
    let look = |consistency| {
        let meeting = Arc::clone(&meeting);
        replica.read(consistency, move |_| meeting.is_joined_by(3))
    };
    thread::scope(|scope| {
        let linearizable = look(Consistency::Linearizable);
        // Only the apply thread would look at it for both of them one after the other.
        let others: Vec<_> =
            (0..2).map(|_| scope.spawn(|| look(Consistency::Local).wait())).collect();
        assert_eq!(linearizable.wait_timeout(DEADLINE * 2), Ok(true));
        assert!(others.into_iter().all(|other| other.join().unwrap() == Ok(true)));
    });
}

#[test]
fn who_reads_while_a_command_is_applied_is_not_held_up_and_sees_it() {
    let replica = alone();
    let gate = lock(&GATE);
    let (tell, told) = mpsc::channel();
    *lock(&APPLYING) = Some(tell);
    let proposed = replica.propose(WAITS);
    told.recv_timeout(DEADLINE).unwrap();
    // Would never come back if it waited for the command.
    let reads: Vec<_> = (0..10).map(|_| replica.read(Consistency::Local, |sum| sum.0)).collect();
    drop(gate);
    assert_eq!(proposed.wait_timeout(DEADLINE), Ok(WAITS + 1));
    for read in reads {
        assert_eq!(read.wait_timeout(DEADLINE), Ok(WAITS + 1));
    }
}

/// Ends those who look at it, however a test goes.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
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
        let _ends = Ends(&is_enough);
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
