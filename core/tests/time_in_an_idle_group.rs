//! Wake-ups in a group without commands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cpg::embedded::LocalRing;
use plainsong::{Context, Index, Replica, ReplicaId, StateMachine, Timestamp};

const DEADLINE: Duration = Duration::from_secs(20);

/// An alarm clock. A command sets an alarm, in milliseconds from its log time.
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
fn each_wake_up_of_an_idle_group_costs_one_entry_at_the_same_index_everywhere() {
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
    // The alarms are not in order, and far enough apart for one entry each.
    let set = [900, 300, 600].map(|ms| replicas[1].propose(ms).wait_timeout(DEADLINE).unwrap());
    wait_until("all alarms to ring", || rung.iter().all(|rung| rung.lock().unwrap().len() == 3));
    let rung: Vec<_> = rung.iter().map(|rung| rung.lock().unwrap().clone()).collect();
    assert!(rung.iter().all(|heard| *heard == rung[0]), "{rung:?}");
    let alarms: Vec<_> = rung[0].iter().map(|(alarm, ..)| *alarm).collect();
    assert_eq!(alarms, [set[1].0, set[2].0, set[0].0]);
    assert!(rung[0].iter().all(|(alarm, _, time)| time >= alarm));
    // There are three more entries and no others, because no wake-up is due.
    let (_, index) = replicas[0].propose(1_000_000).wait_timeout(DEADLINE).unwrap();
    assert_eq!(index.0, set[2].1.0 + 4);
}
