//! Members in the nodes of a cluster, as children of a test.
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

/// How long a ring may take to form, or a message to come.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Tell a child, or a guest, that it is one.
const CHILD: &str = "COROSYNC_TEST_CHILD";
const GUEST: &str = "COROSYNC_TEST_GUEST";

/// This program in a node, as the test of that name.
pub(crate) fn become_test(node: &Node, test: &str) -> Command {
    let mut command = node.command(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// This program in a node, as a member that a [`Remote`] can start.
pub(crate) fn child_command(node: &Node) -> Command {
    let mut command = become_test(node, "child");
    make_child(&mut command);
    command
}

/// Makes a command that becomes the test `child` one that [`be_child`] obeys.
pub(crate) fn make_child(command: &mut Command) -> &mut Command {
    command.env(CHILD, "1").stdout(Stdio::null())
}

/// What the test `child` of each program does: nothing, unless it is one.
pub(crate) fn be_child() {
    if env::var_os(CHILD).is_some() {
        serve(&Transport::Corosync);
    }
}

/// A member in a node, and all events it has received.
pub(crate) struct Observer {
    group: GroupName,
    pub(crate) member: Box<Remote>,
    pub(crate) me: Member,
    pub(crate) heard: Vec<Event>,
}

impl Observer {
    /// Connects, and does not join.
    pub(crate) fn new(node: &Node) -> Self {
        let mut member = Box::new(Remote::start(&mut child_command(node), RINGS).unwrap());
        let me = member.local_member();
        Self { group: GroupName::new("facts").unwrap(), member, me, heard: Vec::new() }
    }

    /// Members in these nodes, each of which knows all others.
    pub(crate) fn group<const COUNT: usize>(nodes: [&Node; COUNT]) -> [Self; COUNT] {
        Self::group_named("facts", nodes)
    }

    /// Members of a group of that name. Each attempt of a test that repeats itself needs a group of
    /// its own: Corosync may list a member of an earlier attempt for ever if the ring changed while
    /// it ended.
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

    /// Joins its group, and tries again while Corosync asks for that.
    pub(crate) fn join(&mut self) {
        insist(|| self.member.join(&self.group));
        let me = self.me;
        self.until("its own join", |heard| {
            configurations(heard).any(|change| change.members.contains(&me))
        });
    }

    /// Sends, however often it takes.
    pub(crate) fn send(&mut self, message: &str) {
        insist(|| self.member.multicast(Guarantee::Agreed, &[message.as_bytes()]));
    }

    /// Hears on until what is wanted is there.
    pub(crate) fn until(&mut self, what: &str, is_there: impl Fn(&[Event]) -> bool) {
        let deadline = Instant::now() + SOON;
        while !is_there(&self.heard) {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.member.next(left).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(event.is_some(), "{} waits in vain for {what}:\n{}", self.me, self.trace());
            self.heard.extend(event);
        }
    }

    pub(crate) fn until_message(&mut self, message: &str) {
        self.until(message, |heard| place_of(heard, message).is_some());
    }

    pub(crate) fn until_members(&mut self, count: usize) {
        self.until("a number of members", |heard| {
            configurations(heard).last().is_some_and(|change| change.members.len() == count)
        });
    }

    /// Waits until that member has left, and says where in what it heard.
    pub(crate) fn until_left(&mut self, member: Member) -> usize {
        let left = |heard: &[Event]| {
            heard.iter().position(|event| {
                matches!(event, Event::Configuration(change)
                    if change.left.iter().any(|gone| gone.member == member))
            })
        };
        self.until("a departure", |heard| left(heard).is_some());
        left(&self.heard).unwrap()
    }

    /// The events received, for the message of a failed test.
    pub(crate) fn trace(&self) -> String {
        let lines = self.heard.iter().map(|event| match event {
            Event::Deliver { sender, message } => {
                format!("  {} from {sender}\n", String::from_utf8_lossy(message))
            }
            other => format!("  {other:?}\n"),
        });
        lines.collect()
    }
}

/// Every connection is told of the ring, right after its join as well.
const RINGS: Options = Options { initial_ring: true };

/// Asks again as long as it may help.
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

pub(crate) fn configurations(heard: &[Event]) -> impl Iterator<Item = &Configuration> {
    heard.iter().filter_map(|event| match event {
        Event::Configuration(change) => Some(change),
        _ => None,
    })
}

pub(crate) fn rings(heard: &[Event]) -> impl Iterator<Item = &Ring> {
    heard.iter().filter_map(|event| match event {
        Event::Ring(ring) => Some(ring),
        _ => None,
    })
}

/// Where that message is in what was heard.
pub(crate) fn place_of(heard: &[Event], text: &str) -> Option<usize> {
    heard.iter().position(
        |event| matches!(event, Event::Deliver { message, .. } if message == text.as_bytes()),
    )
}

/// Who came or went and why, in some order.
pub(crate) fn whose(changes: &[Change], reason: Reason) -> Vec<NodeId> {
    assert!(changes.iter().all(|change| change.reason == reason), "not {reason}: {changes:?}");
    let mut nodes: Vec<_> = changes.iter().map(|change| change.member.node).collect();
    nodes.sort();
    nodes
}

/// Tells something of a test that passes.
pub(crate) fn tell(what: &str) {
    // Not by a macro: the test harness keeps what those print of tests that pass.
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Makes a command of this program one that [`be_guest`] obeys.
pub(crate) fn make_guest(command: &mut Command) -> &mut Command {
    command.args(["--exact", "guest", "--nocapture", "--test-threads=1"]).env(GUEST, "1")
}

/// What the test `guest` does in a guest: it connects, and says what the quorum service says, or
/// the error.
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
        Err(error) => println!("GUEST: refused: {error:?}"),
    }
}
