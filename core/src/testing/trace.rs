use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::wire::message::{Message, Missing, Progress};

/// Receives the lines of a [`Trace`].
type Sink = Arc<Mutex<dyn FnMut(&str) + Send>>;

/// The trace of a run, line by line. Without a sink, lines are not even formatted.
#[derive(Clone, Default)]
pub(super) struct Trace {
    sink: Option<Sink>,
}

impl Trace {
    pub(super) fn to(sink: impl FnMut(&str) + Send + 'static) -> Self {
        Self { sink: Some(Arc::new(Mutex::new(sink))) }
    }

    pub(super) fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    pub(super) fn line(&self, line: &str) {
        if let Some(sink) = &self.sink {
            let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
            (*sink)(line);
        }
    }

    pub(super) fn note(&self, now: Duration, what: impl FnOnce() -> String) {
        if self.is_on() {
            self.line(&format!("{:>9.3} {}", now.as_secs_f64() * 1000.0, what()));
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("is_on", &self.is_on()).finish()
    }
}

/// Formats a message in one line.
pub(super) fn brief(message: &Message) -> String {
    match message {
        Message::Announce(a) => format!(
            "Announce run {} store {} last {} promised {}{}",
            a.incarnation.nonce,
            a.store,
            a.last,
            a.promised,
            if a.first { " first" } else { "" }
        ),
        Message::Begin(ballot) => format!("Begin {ballot}"),
        Message::Report(r) => {
            format!("Report to {} last {} commit {}", r.ballot, r.last, r.commit)
        }
        Message::Open(o) => format!(
            "Open {} base {} sequencer {} voters {}",
            o.ballot,
            o.base,
            o.sequencer,
            o.voters.now.iter().map(|v| v.replica.to_string()).collect::<Vec<_>>().join(" ")
        ),
        Message::Batch(b, progress) => format!(
            "Batch {}/{} number {} of {}{}",
            b.origin.replica,
            b.origin.counter,
            b.number,
            b.count,
            progress.as_ref().map_or_else(String::new, |p| format!(" with {}", brief_progress(p)))
        ),
        Message::Progress(p) => format!("Progress {}", brief_progress(p)),
        Message::Fetch(f) => match &f.missing {
            Missing::Open => format!("Fetch the Open of {}", f.epoch),
            Missing::Entries { after, .. } => {
                format!("Fetch entries after {after} in epoch {}", f.epoch)
            }
        },
        Message::Read(read) => format!("{read:?}"),
        Message::Offer(offer) => format!("{offer:?}"),
        Message::Chunk(c) => format!("Chunk {} of {}", c.number, c.name),
        Message::Received(received) => format!("{received:?}"),
        Message::Entries(e) => format!(
            "Entries of epoch {} from {}, {}{}",
            e.epoch,
            e.first,
            e.entries.len(),
            if e.more { ", more to follow" } else { "" }
        ),
    }
}

fn brief_progress(p: &Progress) -> String {
    let marks = p.marks.as_ref().map_or_else(String::new, |marks| {
        format!(" marks {}+{}", marks.first, marks.entries.len())
    });
    format!(
        "epoch {} acked {} applied {} promised {}{marks}",
        p.epoch, p.acked, p.applied, p.promised
    )
}
