//! Peers of the group that run another application (protocol §4, rule V5).

use std::collections::BTreeMap;
use std::time::Duration;

use cpg::Member;

use crate::engine::stop::name_of;
use crate::engine::{Engine, Input, StepResult, StopReason};
use crate::wire::codec::Decoded;
use crate::wire::message::{Announce, Message};
use crate::wire::types::{ApplicationId, Ballot, Index};

/// Maximum number of characters that are kept of the name of another application.
const NAME_CHARS_MAX: usize = 64;

/// The members that run other applications.
#[derive(Debug, Default)]
pub(crate) struct Applications(BTreeMap<Member, Other>);

/// A member that runs another application.
#[derive(Debug)]
struct Other {
    /// The name of the application; `None` before the member has announced itself.
    name: Option<String>,
    has_log: bool,
    since: Duration,
}

impl Applications {
    pub(crate) fn retain(&mut self, keep: impl Fn(&Member) -> bool) {
        self.0.retain(|member, _| keep(member));
    }

    pub(crate) fn contains(&self, member: Member) -> bool {
        self.0.contains_key(&member)
    }

    /// The name of the other application that a member runs; `None` if it runs none.
    pub(crate) fn of(&self, member: Member) -> Option<String> {
        self.0.get(&member).map(|other| name_of(other.name.as_deref().unwrap_or_default()))
    }

    /// A member with a log of another application.
    pub(crate) fn with_log(&self) -> Option<(Member, &str)> {
        self.with_log_before(Duration::MAX)
    }

    fn with_log_before(&self, until: Duration) -> Option<(Member, &str)> {
        let mut others = self.0.iter().filter(|(_, other)| other.has_log && other.since <= until);
        others.next().map(|(member, other)| (*member, other.name.as_deref().unwrap_or_default()))
    }
}

impl<T> Engine<T> {
    /// This replica's application.
    pub(crate) fn application(&self) -> ApplicationId {
        ApplicationId::of(&self.config.application)
    }

    /// Turns a frame into the input that it is to this replica.
    pub(crate) fn delivered(&self, from: Member, frame: Decoded) -> Input<T> {
        let Decoded { application, cluster, message } = frame;
        if application == self.application() {
            return Input::Delivered { from, cluster, message };
        }
        let announce = match message {
            Message::Announce(announce) => Some(announce),
            _ => None,
        };
        Input::OtherApplication { from, announce }
    }

    /// Ignores the member from now on, and reports it once.
    pub(crate) fn on_other_application(&mut self, from: Member, announce: Option<Announce>) {
        if !self.peers.is_present(from) {
            return;
        }
        self.peers.forget(from);
        let since = self.now.monotonic;
        let other = self.peers.applications.0.entry(from);
        let other = other.or_insert(Other { name: None, has_log: false, since });
        let Some(Announce { mut application, last, incarnation, .. }) = announce else { return };
        if last.index > Index(0) && !other.has_log {
            (other.has_log, other.since) = (true, since);
        }
        if other.name.is_none() {
            application = application.chars().take(NAME_CHARS_MAX).collect();
            tracing::warn!(
                replica = %self.config.incarnation.replica, %from,
                mine = name_of(&self.config.application),
                theirs = name_of(&application),
                "replica {} of another application is in this CPG group and is ignored: give one \
                 of the two another group name",
                incarnation.replica,
            );
            other.name = Some(application);
        }
    }

    /// Stops a replica without a log that has joined the group of another application. Others of
    /// its own application that have a log get an election timeout to say so first.
    pub(crate) fn give_way_to_other_application(&self) -> StepResult {
        let until = self.now.monotonic.saturating_sub(self.config.election_timeout);
        let is_of_a_group = self.live().is_some()
            || self
                .peers
                .identified()
                .any(|peer| peer.last.index > Index(0) || peer.epoch != Ballot::default());
        match self.peers.applications.with_log_before(until) {
            Some((other, theirs)) if self.log.is_empty() && !is_of_a_group => {
                let (mine, theirs) = (self.config.application.clone(), theirs.to_owned());
                Err(StopReason::OtherApplication { mine, theirs, other })
            }
            _ => Ok(()),
        }
    }
}
