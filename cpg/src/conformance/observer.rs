use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Cluster, Member};
use crate::{Change, Configuration, Error, Event, GroupName, Guarantee, Options, Reason, Ring};

/// A group that no case before has used.
pub(super) fn new_group() -> GroupName {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    GroupName::new(&format!("conformance-{}-{number}", std::process::id())).unwrap()
}

/// A member, and all events it has received.
pub(super) struct Observer {
    pub(super) member: Box<dyn Member>,
    pub(super) me: crate::Member,
    pub(super) heard: Vec<Event>,
    patience: Duration,
    quiet: Duration,
}

impl Observer {
    pub(super) fn new(cluster: &dyn Cluster, node: usize) -> Self {
        Self::with(cluster, node, Options::default())
    }

    pub(super) fn with(cluster: &dyn Cluster, node: usize, options: Options) -> Self {
        let mut member = cluster.member(node, options);
        let me = member.local_member();
        let (patience, quiet) = (cluster.patience(), cluster.quiet());
        Self { member, me, heard: Vec::new(), patience, quiet }
    }

    /// A member that has joined and heard so.
    pub(super) fn joined(cluster: &dyn Cluster, node: usize, group: &GroupName) -> Self {
        let mut observer = Self::new(cluster, node);
        observer.join(group);
        let me = observer.me;
        observer.until("its own join", |heard| {
            configurations(heard).any(|change| joined(change).contains(&me))
        });
        observer
    }

    /// Members at the nodes `0..count`, each of which knows all others.
    pub(super) fn group(cluster: &dyn Cluster, count: usize, group: &GroupName) -> Vec<Self> {
        let mut observers: Vec<_> =
            (0..count).map(|node| Self::joined(cluster, node, group)).collect();
        for observer in &mut observers {
            observer.until_members(count);
        }
        observers
    }

    /// Joins, however often it takes.
    pub(super) fn join(&mut self, group: &GroupName) {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.member.join(group) {
                Ok(()) => return,
                Err(error) if error.is_retryable() && Instant::now() < deadline => {
                    self.hear(Duration::from_millis(5));
                }
                Err(error) => panic!("cannot join: {error}"),
            }
        }
    }

    /// Sends, however often it takes, and hears meanwhile.
    pub(super) fn send(&mut self, message: impl AsRef<[u8]>) {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.member.multicast(Guarantee::Agreed, &[message.as_ref()]) {
                Ok(()) => return,
                Err(Error::TryAgain) if Instant::now() < deadline => {
                    self.hear(Duration::from_millis(5));
                }
                Err(error) => panic!("cannot send: {error}"),
            }
        }
    }

    /// Hears the next event, if it comes in time.
    pub(super) fn hear(&mut self, timeout: Duration) -> bool {
        match self.member.next(timeout) {
            Ok(event) => {
                let came = event.is_some();
                self.heard.extend(event);
                came
            }
            Err(error) => panic!("{} cannot hear: {error}\n{}", self.me, self.trace()),
        }
    }

    /// Hears on until what is wanted is there.
    pub(super) fn until(&mut self, what: &str, is_there: impl Fn(&[Event]) -> bool) {
        let deadline = Instant::now() + self.patience;
        while !is_there(&self.heard) {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.hear(left) && left.is_zero() {
                panic!("{} waits in vain for {what}. It heard:\n{}", self.me, self.trace());
            }
        }
    }

    pub(super) fn until_message(&mut self, message: &[u8]) {
        self.until("a message", |heard| messages(heard).any(|(_, heard)| heard == message));
    }

    pub(super) fn until_members(&mut self, count: usize) {
        self.until("a number of members", |heard| {
            configurations(heard).last().is_some_and(|change| change.members.len() == count)
        });
    }

    /// Waits until that member has left, and says why.
    pub(super) fn until_left(&mut self, member: crate::Member) -> Reason {
        let why = |heard: &[Event]| {
            let mut left = configurations(heard).flat_map(|change| change.left.clone());
            left.find(|change| change.member == member).map(|change| change.reason)
        };
        self.until("a departure", |heard| why(heard).is_some());
        why(&self.heard).unwrap()
    }

    /// Checks that nothing comes but rings.
    pub(super) fn assert_quiet(&mut self) {
        let deadline = Instant::now() + self.quiet;
        let before = self.history().len();
        while Instant::now() < deadline {
            self.hear(deadline.saturating_duration_since(Instant::now()));
        }
        assert_eq!(self.history()[before..], [], "nothing more was to come");
    }

    /// Returns all events except rings, which have no common position for all groups.
    pub(super) fn history(&self) -> Vec<Event> {
        let is_of_group = |event: &&Event| !matches!(event, Event::Ring(_));
        self.heard.iter().filter(is_of_group).cloned().collect()
    }

    /// The last events received, for the message of a failed case.
    fn trace(&self) -> String {
        let skipped = self.heard.len().saturating_sub(20);
        let lines = self.heard[skipped..].iter().map(|event| match event {
            Event::Deliver { sender, message } => {
                format!(
                    "  {} bytes of {sender}: {:?}\n",
                    message.len(),
                    message.slice(..message.len().min(40))
                )
            }
            other => format!("  {other:?}\n"),
        });
        format!("  ({skipped} events before)\n{}", lines.collect::<String>())
    }
}

pub(super) fn configurations(heard: &[Event]) -> impl Iterator<Item = &Configuration> {
    heard.iter().filter_map(|event| match event {
        Event::Configuration(change) => Some(change),
        _ => None,
    })
}

pub(super) fn messages(heard: &[Event]) -> impl Iterator<Item = (crate::Member, &Bytes)> {
    heard.iter().filter_map(|event| match event {
        Event::Deliver { sender, message } => Some((*sender, message)),
        _ => None,
    })
}

pub(super) fn rings(heard: &[Event]) -> impl Iterator<Item = &Ring> {
    heard.iter().filter_map(|event| match event {
        Event::Ring(ring) => Some(ring),
        _ => None,
    })
}

pub(super) fn joined(change: &Configuration) -> Vec<crate::Member> {
    change.joined.iter().map(|change| change.member).collect()
}

/// One member that came or went.
pub(super) fn change(member: crate::Member, reason: Reason) -> Vec<Change> {
    vec![Change { member, reason }]
}
