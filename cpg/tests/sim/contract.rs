//! The CPG contract, on a faultless simulated group: all of it that concerns one group and is
//! not about how a [`cpg::Connection`] is dispatched.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use cpg::conformance::{self, Cluster, Member};
use cpg::sim::{ConnectionId, Faults, Sim};
use cpg::{
    Error, Event, GroupEntry, GroupName, Guarantee, Iteration, NodeId, Options, Pid, Transport,
};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                conformance::run(stringify!($name), &Simulated::new());
            }
        )*
    };
}

tests! {
    own_join_comes_first
    members_are_sorted_and_the_same_everywhere
    a_second_join_of_a_connection_exists
    leaving_needs_membership
    leaving_is_the_last_event_and_for_good
    a_new_connection_can_join_after_leaving
    a_new_connection_can_join_after_closing
    senders_are_in_one_order_for_all
    each_sender_is_in_its_own_order
    own_messages_are_heard
    changes_are_at_one_position_for_all
    nothing_is_heard_from_before_joining
    sending_needs_membership
    sending_right_after_joining_works
    an_empty_message_is_a_message
    many_slices_are_one_message
    the_largest_message_passes_and_no_larger
    a_flood_keeps_its_order
    a_slow_member_holds_up_nobody
    closing_without_leaving_is_a_process_down
    a_killed_process_is_a_process_down
    what_was_sent_before_closing_is_heard
    a_stopped_node_is_a_node_down
    the_initial_ring_follows_the_own_join
}

struct Simulated {
    sim: Arc<Mutex<Sim>>,
    last_pid: Mutex<u32>,
}

impl Simulated {
    fn new() -> Self {
        let sim = Sim::new(5, NODES, Faults::default());
        Self { sim: Arc::new(Mutex::new(sim)), last_pid: Mutex::new(0) }
    }
}

impl Cluster for Simulated {
    fn transport(&self) -> Transport {
        unreachable!("no case here asks for it")
    }

    fn member(&self, node: usize, _options: Options) -> Box<dyn Member> {
        let mut pid = self.last_pid.lock().unwrap();
        *pid += 1;
        let me = cpg::Member { node: NODES[node], pid: Pid(*pid) };
        Box::new(SimulatedMember {
            sim: Arc::clone(&self.sim),
            me,
            connection: None,
            has_left: false,
        })
    }

    fn stop(&self, node: usize) -> bool {
        self.sim.lock().unwrap().kill_daemon(NODES[node]);
        true
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(5)
    }
}

struct SimulatedMember {
    sim: Arc<Mutex<Sim>>,
    me: cpg::Member,
    connection: Option<ConnectionId>,
    has_left: bool,
}

impl SimulatedMember {
    fn sim(&self) -> MutexGuard<'_, Sim> {
        self.sim.lock().unwrap()
    }

    fn connection(&self) -> cpg::Result<ConnectionId> {
        self.connection.ok_or(Error::NotExist)
    }
}

impl Member for SimulatedMember {
    fn join(&mut self, _group: &GroupName) -> cpg::Result<()> {
        if self.has_left {
            return Err(Error::BadHandle);
        }
        let connection = self.sim().join(self.me.node, self.me.pid)?;
        self.connection = Some(connection);
        Ok(())
    }

    fn leave(&mut self) -> cpg::Result<()> {
        let connection = self.connection()?;
        let left = self.sim().leave(connection);
        self.has_left |= left.is_ok();
        left
    }

    fn multicast(&mut self, _guarantee: Guarantee, message: &[&[u8]]) -> cpg::Result<()> {
        let connection = self.connection()?;
        self.sim().multicast(connection, Bytes::from(message.concat()))
    }

    fn next(&mut self, timeout: Duration) -> cpg::Result<Option<Event>> {
        let Some(connection) = self.connection else { return Ok(None) };
        let turns = if timeout.is_zero() { 1 } else { 20 };
        for _ in 0..turns {
            let mut sim = self.sim();
            if let Some(event) = sim.poll(connection)? {
                return Ok(Some(event));
            }
            sim.advance(Duration::from_micros(500));
            drop(sim);
            thread::yield_now();
        }
        Ok(None)
    }

    fn members(&mut self, _group: &GroupName) -> cpg::Result<Vec<cpg::Member>> {
        let sim = self.sim();
        if sim.is_up(self.me.node) { Ok(sim.members(self.me.node)) } else { Err(Error::Library) }
    }

    fn groups(&mut self, _iteration: &Iteration) -> cpg::Result<Vec<GroupEntry>> {
        Err(Error::NotSupported)
    }

    fn local_member(&mut self) -> cpg::Member {
        self.me
    }

    fn max_atomic_message_size(&mut self) -> usize {
        cpg::embedded::MESSAGE_BYTES_MAX
    }

    fn close(self: Box<Self>) {
        if let Some(connection) = self.connection {
            self.sim().close(connection);
        }
    }

    fn kill(self: Box<Self>) {
        self.close();
    }
}
