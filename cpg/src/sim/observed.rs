use std::fmt;
use std::time::Duration;

/// Number of times that each fault or its consequence occurred. A test shows by it that the group
/// under test had something to survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observed {
    /// S2: a message was taken over with `Ok` and lost.
    pub lost_messages: u64,
    /// S3: a call was refused with [`TryAgain`](crate::Error::TryAgain).
    pub refusals: u64,
    /// S3: a message came out in a later ring than it was taken over in.
    pub late_messages: u64,
    /// S4: a message was delivered by some nodes of its ring and not by others.
    pub partly_delivered: u64,
    /// S4: a hole in a ring's order was passed over.
    pub holes: u64,
    /// S5: a message was delivered where it was sent and nowhere else.
    pub only_at_sender: u64,
    /// S7: a node heard that all others left and, with the same ring, that they joined.
    pub two_step_merges: u64,
    /// S8: a node missed messages and heard of no change of the nodes that sent them.
    pub silent_gaps: u64,
    /// S9: a message was lost at a node that merged, because it straddled the ring change.
    pub straddled: u64,
    /// S10: a message was delivered though its sender was not listed any more.
    pub posthumous: u64,
    /// S10: a message was dropped because nobody of its node was listed any more.
    pub unknown_node: u64,
    /// S11: a dead process was listed as a member.
    pub listed_dead: u64,
    /// S11: a member that vanished while it was away was told as a dead process.
    pub vanished: u64,
    /// S13: a ring was told although the group had not changed.
    pub bare_rings: u64,
    /// S13: a connection heard of a ring before its own join.
    pub early_rings: u64,
    /// S15: a connection was lost with its daemon.
    pub lost_connections: u64,
    /// Rings that were formed, and those of them that broke before they had agreed on their
    /// members.
    pub rings: u64,
    /// See [`rings`](Self::rings).
    pub aborted_rings: u64,
}

impl Observed {
    /// Returns the counters with their names.
    pub fn named(&self) -> [(&'static str, u64); 18] {
        [
            ("lost_messages", self.lost_messages),
            ("refusals", self.refusals),
            ("late_messages", self.late_messages),
            ("partly_delivered", self.partly_delivered),
            ("holes", self.holes),
            ("only_at_sender", self.only_at_sender),
            ("two_step_merges", self.two_step_merges),
            ("silent_gaps", self.silent_gaps),
            ("straddled", self.straddled),
            ("posthumous", self.posthumous),
            ("unknown_node", self.unknown_node),
            ("listed_dead", self.listed_dead),
            ("vanished", self.vanished),
            ("bare_rings", self.bare_rings),
            ("early_rings", self.early_rings),
            ("lost_connections", self.lost_connections),
            ("rings", self.rings),
            ("aborted_rings", self.aborted_rings),
        ]
    }
}

/// Receives trace lines.
pub(super) type Reader = Box<dyn FnMut(&str) + Send>;

/// Counts the faults and their consequences, and reports them line by line to a reader.
#[derive(Default)]
pub(super) struct Journal {
    pub(super) observed: Observed,
    pub(super) now: Duration,
    pub(super) reader: Option<Reader>,
}

impl Journal {
    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        if let Some(reader) = &mut self.reader {
            reader(&format!("{:>9.3} {what}", self.now.as_secs_f64() * 1000.0));
        }
    }
}
