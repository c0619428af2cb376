use std::sync::Arc;
use std::time::{Duration, Instant};

use plainsong::{Event, Watcher};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::ReplicaStatus;

/// Reports status changes of some replicas until `stop` is ready. Must be called within a Tokio
/// runtime.
pub async fn watch(
    stop: impl Future<Output = ()>,
    watchers: Vec<Watcher<Event>>,
    statuses: impl Fn() -> Vec<ReplicaStatus>,
    report: impl Fn(Line),
) {
    let changed = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for mut watcher in watchers {
        let changed = Arc::clone(&changed);
        tasks.spawn(async move {
            while watcher.next().await.is_some() {
                changed.notify_one();
            }
        });
    }
    let mut watch = Watch::default();
    tokio::pin!(stop);
    loop {
        watch.look(Instant::now(), &statuses()).into_iter().for_each(&report);
        let owed = watch.owed_at;
        tokio::select! {
            () = &mut stop => return,
            () = changed.notified() => {}
            () = sleep_until(owed.unwrap_or_else(Instant::now).into()), if owed.is_some() => {}
        }
    }
}

/// Converts status changes of some replicas to lines, without repetitions.
///
/// Most changes are reported at once. The progress of commits is reported at most twice a second,
/// and a blocker of which only the numbers change at most every two seconds.
#[derive(Debug, Default)]
struct Watch {
    reported: Vec<Reported>,
    progress: Vec<u64>,
    progress_at: Option<Instant>,
    /// Time at which progress that was held back is to be reported.
    owed_at: Option<Instant>,
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

const COUNTING_INTERVAL: Duration = Duration::from_secs(2);

/// The last report about a replica.
#[derive(Clone, Debug)]
struct Reported {
    line: String,
    /// The line without the digits of its blocker.
    frame: String,
    at: Instant,
}

/// A line to report.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The status of a replica has changed.
    Change(String),
    /// More commands have been committed.
    Progress(String),
}

impl Line {
    /// Logs the line: changes at level INFO, progress at level DEBUG.
    pub fn log(self) {
        match self {
            Self::Change(line) => tracing::info!("{line}"),
            Self::Progress(line) => tracing::debug!("{line}"),
        }
    }
}

impl Watch {
    /// Compares the statuses with the last reports and returns the lines that are due.
    fn look(&mut self, now: Instant, statuses: &[ReplicaStatus]) -> Vec<Line> {
        let mut lines = Vec::new();
        let nothing = Reported { line: String::new(), frame: String::new(), at: now };
        self.reported.resize(statuses.len(), nothing);
        for (reported, status) in self.reported.iter_mut().zip(statuses) {
            let (line, frame) = describe(status);
            let only_counts = frame == reported.frame && now - reported.at < COUNTING_INTERVAL;
            if reported.line != line && !only_counts {
                lines.push(Line::Change(line.clone()));
                *reported = Reported { line, frame, at: now };
            }
        }
        let progress: Vec<u64> = statuses.iter().map(|status| status.committed).collect();
        self.owed_at = None;
        if progress == self.progress || progress.iter().all(|committed| *committed == 0) {
            return lines;
        }
        let due_at = self.progress_at.map_or(now, |at| at + PROGRESS_INTERVAL);
        if now < due_at {
            self.owed_at = Some(due_at);
        } else {
            let parts = statuses.iter().map(|s| format!("{} at {}", s.id, s.committed));
            let parts: Vec<String> = parts.collect();
            lines.push(Line::Progress(format!("committed: replica {}", parts.join(", replica "))));
            self.progress = progress;
            self.progress_at = Some(now);
        }
        lines
    }
}

/// Describes a replica in a line. Also returns the line without the digits of its blocker.
fn describe(status: &ReplicaStatus) -> (String, String) {
    let ReplicaStatus { id, role, epoch, members, .. } = status;
    let members = if members.is_empty() { "none".into() } else { members.join(" ") };
    let line = format!("replica {id}: {role}, epoch {epoch}, members {members}");
    let Some(blocker) = status.blocker().map(|blocker| blocker.to_string()) else {
        return (line.clone(), line);
    };
    let words = blocker.replace(|character: char| character.is_ascii_digit(), "");
    (format!("{line}; {blocker}"), format!("{line}; {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_reported_at_once_and_progress_is_rate_limited() {
        let mut watch = Watch::default();
        let start = Instant::now();
        let mut one = ReplicaStatus {
            id: "1".into(),
            role: "candidate".into(),
            epoch: "0.0".into(),
            members: vec!["1".into()],
            waiting: Some("waiting for a majority of 1 2 3".into()),
            ..ReplicaStatus::default()
        };
        let line = "replica 1: candidate, epoch 0.0, members 1; waiting for a majority of 1 2 3";
        assert_eq!(watch.look(start, &[one.clone()]), [Line::Change(line.into())]);
        assert_eq!(watch.look(start, &[one.clone()]), []);
        one.committed = 1;
        let line = "committed: replica 1 at 1";
        assert_eq!(watch.look(start, &[one.clone()]), [Line::Progress(line.into())]);
        one.committed = 2;
        assert_eq!(watch.look(start + PROGRESS_INTERVAL / 2, &[one.clone()]), []);
        assert_eq!(watch.owed_at, Some(start + PROGRESS_INTERVAL));
        let line = "committed: replica 1 at 2";
        let later = start + PROGRESS_INTERVAL;
        assert_eq!(watch.look(later, &[one.clone()]), [Line::Progress(line.into())]);
        assert_eq!(watch.look(later + PROGRESS_INTERVAL, &[one.clone()]), []);
        assert_eq!(watch.owed_at, None);
        one.waiting = Some("waiting for entry 8".into());
        assert_eq!(watch.look(later, &[one.clone()]).len(), 1);
        one.waiting = Some("waiting for entry 9".into());
        assert_eq!(watch.look(later, &[one.clone()]), []);
        let line = "replica 1: candidate, epoch 0.0, members 1; waiting for entry 9";
        assert_eq!(watch.look(later + COUNTING_INTERVAL, &[one]), [Line::Change(line.into())]);
    }
}
