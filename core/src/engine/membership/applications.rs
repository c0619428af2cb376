//! Members of the group that run another application (protocol §4, rule V5).

use std::collections::BTreeMap;
use std::time::Duration;

use cpg::Member;

use crate::engine::stop::name_of;
use crate::engine::{Engine, Input, StepResult, StopReason};
use crate::wire::codec::Decoded;
use crate::wire::message::{Announce, Message};
use crate::wire::types::{ApplicationId, Ballot, Index};

/// Maximum number of characters kept of another application's name.
const NAME_CHARS_MAX: usize = 64;

/// Members that run other applications.
#[derive(Debug, Default)]
pub(crate) struct Applications(BTreeMap<Member, Other>);

/// A member that runs another application.
#[derive(Debug)]
struct Other {
    /// Name of the application; `None` before the member has announced itself.
    name: Option<String>,
    /// True once the member has announced a log.
    has_log: bool,
    /// Time at which the member was first heard, or at which it first announced a log.
    since: Duration,
}

impl Applications {
    pub(crate) fn retain(&mut self, keep: impl Fn(&Member) -> bool) {
        self.0.retain(|member, _| keep(member));
    }

    pub(crate) fn contains(&self, member: Member) -> bool {
        self.0.contains_key(&member)
    }

    /// Returns the name of the other application that a member runs; `None` if it runs none.
    pub(crate) fn of(&self, member: Member) -> Option<String> {
        self.0.get(&member).map(|other| name_of(other.name.as_deref().unwrap_or_default()))
    }

    /// Returns a member with a log of another application, and the name of that application.
    pub(crate) fn with_log(&self) -> Option<(Member, &str)> {
        self.with_log_before(Duration::MAX)
    }

    /// Returns a member that has had a log of another application since `until` or before.
    fn with_log_before(&self, until: Duration) -> Option<(Member, &str)> {
        let mut others = self.0.iter().filter(|(_, other)| other.has_log && other.since <= until);
        others.next().map(|(member, other)| (*member, other.name.as_deref().unwrap_or_default()))
    }
}

impl<T> Engine<T> {
    /// Returns the id of this replica's application.
    pub(crate) fn application(&self) -> ApplicationId {
        ApplicationId::of(&self.config.application)
    }

    /// Converts a frame to an input. A frame of another application becomes an input of its own
    /// kind.
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

    /// Ignores the member from now on, and reports its application once.
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

    /// Stops a replica with an empty log that has joined the group of another application. Members
    /// of its own application with a log have an election timeout to announce it first.
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
