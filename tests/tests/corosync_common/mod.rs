//! Members in the nodes of a cluster, which run as child processes of a test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test uses what it needs, and fails by panicking"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use cpg::conformance::{Member as _, Remote, serve};
use cpg::{
    Change, Configuration, Event, GroupName, Guarantee, Member, NodeId, Options, Reason, Ring,
    Transport,
};
use plainsong_tests::rig::Node;

/// Maximum time until a ring forms or a message arrives.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Environment variables that turn a test process into a child or a guest.
const CHILD: &str = "COROSYNC_TEST_CHILD";
const GUEST: &str = "COROSYNC_TEST_GUEST";

/// Returns a command that runs one test of this program in a node.
pub(crate) fn become_test(node: &Node, test: &str) -> Command {
    let mut command = node.command(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// Returns a command that runs this program in a node as a member, for [`Remote`].
pub(crate) fn child_command(node: &Node) -> Command {
    let mut command = become_test(node, "child");
    make_child(&mut command);
    command
}

/// Makes a command that runs the test `child` a child, for [`be_child`].
pub(crate) fn make_child(command: &mut Command) -> &mut Command {
    command.env(CHILD, "1").stdout(Stdio::null())
}

/// The body of the test `child` of each program. Does nothing unless the process is a child.
pub(crate) fn be_child() {
    if env::var_os(CHILD).is_some() {
        serve(&Transport::Corosync);
    }
}

/// A member in a node, with all events that it has received.
pub(crate) struct Observer {
    group: GroupName,
    pub(crate) member: Box<Remote>,
    pub(crate) me: Member,
    pub(crate) received: Vec<Event>,
}

impl Observer {
    /// Connects without joining a group.
    pub(crate) fn new(node: &Node) -> Self {
        let mut member = Box::new(Remote::start(&mut child_command(node), RINGS).unwrap());
        let me = member.local_member();
        Self { group: GroupName::new("facts").unwrap(), member, me, received: Vec::new() }
    }

    /// Starts members in these nodes and waits until each lists all others.
    pub(crate) fn group<const COUNT: usize>(nodes: [&Node; COUNT]) -> [Self; COUNT] {
        Self::group_named("facts", nodes)
    }

    /// Starts members as [`group`](Self::group) does, in a group of that name. Each attempt of a
    /// test that repeats itself needs a group of its own: Corosync may list a member of an earlier
    /// attempt forever if the ring changed while it ended.
    pub(crate) fn group_named<const COUNT: usize>(
        name: &str,
        nodes: [&Node; COUNT],
    ) -> [Self; COUNT] {
        let mut observers = nodes.map(|node| {
            let mut observer = Self::new(node);
            observer.group = GroupName::new(name).unwrap();
            observer.join();
            observer
        });
        for observer in &mut observers {
            observer.until_members(COUNT);
        }
        observers
    }

    /// Joins its group, and retries while Corosync demands it.
    pub(crate) fn join(&mut self) {
        insist(|| self.member.join(&self.group));
        let me = self.me;
        self.until("its own join", |received| {
            configurations(received).any(|change| change.members.contains(&me))
        });
    }

    /// Sends a message, and retries while Corosync demands it.
    pub(crate) fn send(&mut self, message: &str) {
        insist(|| self.member.multicast(Guarantee::Agreed, &[message.as_bytes()]));
    }

    /// Receives events until the condition holds.
    pub(crate) fn until(&mut self, what: &str, is_there: impl Fn(&[Event]) -> bool) {
        let deadline = Instant::now() + SOON;
        while !is_there(&self.received) {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.member.next(left).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(event.is_some(), "{} did not receive {what}:\n{}", self.me, self.trace());
            self.received.extend(event);
        }
    }

    pub(crate) fn until_message(&mut self, message: &str) {
        self.until(message, |received| place_of(received, message).is_some());
    }

    pub(crate) fn until_members(&mut self, count: usize) {
        self.until("a number of members", |received| {
            configurations(received).last().is_some_and(|change| change.members.len() == count)
        });
    }

    /// Waits until a member has left, and returns the position of this event.
    pub(crate) fn until_left(&mut self, member: Member) -> usize {
        let left = |received: &[Event]| {
            received.iter().position(|event| {
                matches!(event, Event::Configuration(change)
                    if change.left.iter().any(|gone| gone.member == member))
            })
        };
        self.until("a departure", |received| left(received).is_some());
        left(&self.received).unwrap()
    }

    /// Formats the received events, for the message of a failed test.
    pub(crate) fn trace(&self) -> String {
        let lines = self.received.iter().map(|event| match event {
            Event::Deliver { sender, message } => {
                format!("  {} from {sender}\n", String::from_utf8_lossy(message))
            }
            other => format!("  {other:?}\n"),
        });
        lines.collect()
    }
}

/// Every connection receives ring events, including one right after its join.
const RINGS: Options = Options { initial_ring: true };

/// Repeats a call while its error is retryable.
pub(crate) fn insist(mut call: impl FnMut() -> cpg::Result<()>) {
    let deadline = Instant::now() + SOON;
    loop {
        match call() {
            Ok(()) => return,
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn configurations(received: &[Event]) -> impl Iterator<Item = &Configuration> {
    received.iter().filter_map(|event| match event {
        Event::Configuration(change) => Some(change),
        _ => None,
    })
}

pub(crate) fn rings(received: &[Event]) -> impl Iterator<Item = &Ring> {
    received.iter().filter_map(|event| match event {
        Event::Ring(ring) => Some(ring),
        _ => None,
    })
}

/// Returns the position of a message among the received events.
pub(crate) fn place_of(received: &[Event], text: &str) -> Option<usize> {
    received.iter().position(
        |event| matches!(event, Event::Deliver { message, .. } if message == text.as_bytes()),
    )
}

/// Returns the nodes of these changes, sorted, after checking that all have this reason.
pub(crate) fn whose(changes: &[Change], reason: Reason) -> Vec<NodeId> {
    assert!(changes.iter().all(|change| change.reason == reason), "not {reason}: {changes:?}");
    let mut nodes: Vec<_> = changes.iter().map(|change| change.member.node).collect();
    nodes.sort();
    nodes
}

/// Prints a line, also in a test that passes.
pub(crate) fn tell(what: &str) {
    // Not by a macro, because the test harness hides the output of macros in tests that pass.
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Makes a command of this program a guest, for [`be_guest`].
pub(crate) fn make_guest(command: &mut Command) -> &mut Command {
    command.args(["--exact", "guest", "--nocapture", "--test-threads=1"]).env(GUEST, "1")
}

/// The body of the test `guest`: connects and prints the state of the quorum service, or the error.
/// Does nothing unless the process is a guest.
pub(crate) fn be_guest() {
    if env::var_os(GUEST).is_none() {
        return;
    }
    let quorum = Transport::Corosync.connect(Options::default()).and_then(|guest| guest.quorum());
    match quorum {
        Ok(quorum) => {
            let quorate = if quorum.quorate { "quorate" } else { "not quorate" };
            let nodes: Vec<_> = quorum.nodes.iter().map(NodeId::to_string).collect();
            println!("GUEST: {quorate}, ring {}, nodes {}", quorum.ring, nodes.join(" "));
        }
        Err(error) => println!("GUEST: error: {error:?}"),
    }
}
