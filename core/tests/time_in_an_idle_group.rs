//! Wake-ups in a group where nobody proposes anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cpg::embedded::LocalRing;
use plainsong::{Context, Index, Replica, ReplicaId, StateMachine, Timestamp};

const DEADLINE: Duration = Duration::from_secs(20);

/// An alarm clock: each command sets an alarm so many milliseconds from then.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Alarms {
    set: Vec<Timestamp>,
    #[serde(skip)]
    rung: Arc<Mutex<Vec<(Timestamp, Index, Timestamp)>>>,
}

impl StateMachine for Alarms {
    type Command = u64;
    type Output = (Timestamp, Index);

    fn apply(&mut self, context: &Context, ms: u64) -> (Timestamp, Index) {
        let at = Timestamp(context.time().0 + ms);
        self.set.push(at);
        self.set.sort_unstable();
        (at, context.index())
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.set.first().copied()
    }

    fn wake(&mut self, context: &Context) {
        self.rung.lock().unwrap().push((self.set.remove(0), context.index(), context.time()));
    }

    plainsong::snapshot_by_clone!();
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

#[test]
fn alarms_ring_in_an_idle_group_in_order_at_one_place_everywhere_and_cost_one_entry_each() {
    let ring = LocalRing::new();
    let rung: Vec<_> = (0..3).map(|_| Arc::default()).collect();
    let replicas: Vec<_> = (1..)
        .zip(&rung)
        .map(|(id, rung)| {
            Replica::builder(ReplicaId(id), Alarms { rung: Arc::clone(rung), set: Vec::new() })
                .transport(ring.node())
                .bootstrap([1, 2, 3].map(ReplicaId))
                .start()
                .unwrap()
        })
        .collect();
    // In the wrong order, far enough apart for an entry each.
    let set = [900, 300, 600].map(|ms| replicas[1].propose(ms).wait_timeout(DEADLINE).unwrap());
    wait_until("all alarms to ring", || rung.iter().all(|rung| rung.lock().unwrap().len() == 3));
    let rung: Vec<_> = rung.iter().map(|rung| rung.lock().unwrap().clone()).collect();
    assert!(rung.iter().all(|heard| *heard == rung[0]), "{rung:?}");
    let alarms: Vec<_> = rung[0].iter().map(|(alarm, ..)| *alarm).collect();
    assert_eq!(alarms, [set[1].0, set[2].0, set[0].0]);
    assert!(rung[0].iter().all(|(alarm, _, time)| time >= alarm));
    // Three more entries, and no more: nobody wants to be woken now.
    let (_, index) = replicas[0].propose(1_000_000).wait_timeout(DEADLINE).unwrap();
    assert_eq!(index.0, set[2].1.0 + 4);
}
