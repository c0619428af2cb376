//! The CPG contract as cases that any transport must pass.
//!
//! A [`Cluster`] says how to get connections and members of a transport; a [`Case`] is a
//! named piece of the contract that panics when it is broken. The cases make no
//! assumption on node or process ids and wait for what they name, with a deadline, never
//! for a length of time.
//!
//! To run them as tests, one each:
//!
//! ```text
//! use cpg::conformance::{self, Cluster, InProcess};
//!
//! macro_rules! tests {
//!     ($($name:ident)*) => {
//!         $(
//!             #[test]
//!             fn $name() {
//!                 conformance::run(stringify!($name), &InProcess::new());
//!             }
//!         )*
//!     };
//! }
//!
//! cpg::for_each_conformance_case!(tests);
//! ```
//!
//! Members that must be processes of their own, because the transport knows processes or
//! because they are to be killed, are [`Remote`]s: children that run [`serve`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a case tells of a broken contract by panicking, as a test does"
)]

mod codec;
mod dispatching;
mod failing;
mod in_process;
mod member;
mod membership;
mod observer;
mod ordering;
mod remote;
mod sending;

use std::time::Duration;

use crate::{Connection, Options, Transport};

pub use in_process::InProcess;
pub use member::{Local, Member};
pub use remote::{Remote, serve};

/// A transport under test.
pub trait Cluster: Sync {
    /// The transport as this very process uses it.
    fn transport(&self) -> Transport;

    /// A new connection at a node, `0..3`. Those of different nodes can be in one group.
    fn member(&self, node: usize, options: Options) -> Box<dyn Member>;

    /// A new connection of this very process.
    fn connect(&self) -> Connection {
        self.transport().connect(Options::default()).expect("a connection")
    }

    /// Stops a node, as if its daemon died. `false` when this transport cannot do that.
    fn stop(&self, _node: usize) -> bool {
        false
    }

    /// Time for which a case waits for something that must happen.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }

    /// Time for which a case waits for something that must not happen.
    fn quiet(&self) -> Duration {
        Duration::from_millis(50)
    }
}

/// One piece of the contract.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The requirement, as the name of the test.
    pub name: &'static str,
    /// Panics when it does not.
    pub run: fn(&dyn Cluster),
}

/// Hands the names of all cases to a macro.
#[macro_export]
macro_rules! for_each_conformance_case {
    ($with:ident) => {
        $with! {
            own_join_comes_first
            members_are_sorted_and_the_same_everywhere
            a_second_join_of_a_connection_exists
            a_process_is_in_a_group_once
            a_process_can_be_in_several_groups
            leaving_needs_membership
            leaving_is_the_last_event_and_for_good
            a_new_connection_can_join_after_leaving
            a_new_connection_can_join_after_closing
            membership_can_be_asked_for
            groups_can_be_gone_over
            the_local_member_is_the_one_in_the_list
            senders_are_in_one_order_for_all
            each_sender_is_in_its_own_order
            own_messages_are_heard
            changes_are_at_one_position_for_all
            nothing_is_heard_from_before_joining
            groups_do_not_hear_each_other
            sending_needs_membership
            sending_right_after_joining_works
            an_empty_message_is_a_message
            many_slices_are_one_message
            the_largest_message_passes_and_no_larger
            only_what_is_given_can_be_asked_for
            a_flood_keeps_its_order
            a_slow_member_holds_up_nobody
            closing_without_leaving_is_a_process_down
            a_killed_process_is_a_process_down
            what_was_sent_before_closing_is_heard
            a_stopped_node_is_a_node_down
            a_new_ring_is_told_to_all
            the_initial_ring_follows_the_own_join
            no_initial_ring_unless_asked_for
            dispatching_one_takes_one
            dispatching_all_takes_what_is_there
            dispatching_without_blocking_says_when_nothing_is_there
            dispatching_blocks_until_woken
            a_nested_dispatch_is_busy
            a_handler_may_send
            the_descriptor_is_readable_while_there_are_events
            waiting_takes_nothing_and_ends_in_time
            a_wake_is_heard_even_if_it_comes_early
            a_context_is_kept
        }
    };
}

/// All cases.
pub fn cases() -> &'static [Case] {
    use dispatching::*;
    use failing::*;
    use membership::*;
    use ordering::*;
    use sending::*;

    macro_rules! cases {
        ($($name:ident)*) => {
            &[$(Case { name: stringify!($name), run: $name }),*]
        };
    }
    for_each_conformance_case!(cases)
}

/// Runs the case of that name.
pub fn run(name: &str, cluster: &dyn Cluster) {
    let case = cases().iter().find(|case| case.name == name);
    (case.expect("there is no such case").run)(cluster);
}
