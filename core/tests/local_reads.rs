//! Reads of the state as it is at one replica, with its real threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use cpg::embedded::Ring;
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
    let replica = builder.engine(Ring::new().node()).bootstrap([ReplicaId(1)]).start().unwrap();
    assert_eq!(replica.propose(1).wait_timeout(DEADLINE), Ok(1));
    replica
}

#[test]
fn local_reads_run_beside_each_other_and_beside_linearizable_ones() {
    let replica = alone();
    let all_look = Arc::new(Barrier::new(3));
    let look = |consistency| {
        let all_look = Arc::clone(&all_look);
        replica.read(consistency, move |sum| {
            all_look.wait();
            sum.0
        })
    };
    thread::scope(|scope| {
        let linearizable = look(Consistency::Linearizable);
        // Only the apply thread would look at it for both of them one after the other.
        let others: Vec<_> =
            (0..2).map(|_| scope.spawn(|| look(Consistency::Local).wait())).collect();
        assert_eq!(linearizable.wait_timeout(DEADLINE), Ok(1));
        assert!(others.into_iter().all(|other| other.join().unwrap() == Ok(1)));
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
