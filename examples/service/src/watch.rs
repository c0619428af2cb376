use std::sync::Arc;
use std::time::{Duration, Instant};

use plainsong::{Event, Watcher};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::Situation;

/// Tells what changes at some replicas, until it is asked to stop. To be called in a runtime.
pub async fn watch(
    stop: impl Future<Output = ()>,
    watchers: Vec<Watcher<Event>>,
    situations: impl Fn() -> Vec<Situation>,
    tell: impl Fn(Line),
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
        watch.look(Instant::now(), &situations()).into_iter().for_each(&tell);
        let owed = watch.owed_at;
        tokio::select! {
            () = &mut stop => return,
            () = changed.notified() => {}
            () = sleep_until(owed.unwrap_or_else(Instant::now).into()), if owed.is_some() => {}
        }
    }
}

/// Tells in lines what changes at some replicas, and nothing twice.
///
/// The progress of commits is told at most twice a second; everything else at once.
#[derive(Debug, Default)]
struct Watch {
    told: Vec<String>,
    progress: Vec<u64>,
    progress_at: Option<Instant>,
    /// When progress that was not told is due.
    owed_at: Option<Instant>,
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A replica is otherwise than before.
    Change(String),
    /// Something was committed.
    Progress(String),
}

impl Watch {
    /// Compares with what was told before.
    fn look(&mut self, now: Instant, situations: &[Situation]) -> Vec<Line> {
        let mut lines = Vec::new();
        self.told.resize(situations.len(), String::new());
        for (told, situation) in self.told.iter_mut().zip(situations) {
            let line = described(situation);
            if *told != line {
                told.clone_from(&line);
                lines.push(Line::Change(line));
            }
        }
        let progress: Vec<u64> = situations.iter().map(|situation| situation.committed).collect();
        self.owed_at = None;
        if progress == self.progress || progress.iter().all(|committed| *committed == 0) {
            return lines;
        }
        let due_at = self.progress_at.map_or(now, |at| at + PROGRESS_INTERVAL);
        if now < due_at {
            self.owed_at = Some(due_at);
        } else {
            let parts = situations.iter().map(|s| format!("{} at {}", s.id, s.committed));
            let parts: Vec<String> = parts.collect();
            lines.push(Line::Progress(format!("committed: replica {}", parts.join(", "))));
            self.progress = progress;
            self.progress_at = Some(now);
        }
        lines
    }
}

fn described(situation: &Situation) -> String {
    let Situation { id, role, epoch, members, .. } = situation;
    let mut line = format!("replica {id}: {role}, epoch {epoch}, members {}", members.join(" "));
    if let Some(obstacle) = situation.obstacle() {
        line += &format!("; {obstacle}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told_and_progress_not_too_often() {
        let mut watch = Watch::default();
        let start = Instant::now();
        let mut one = Situation {
            id: "1".into(),
            role: "candidate".into(),
            epoch: "0.0".into(),
            members: vec!["1".into()],
            waiting: Some("waiting for a majority of 1 2 3".into()),
            ..Situation::default()
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
        assert_eq!(watch.look(later + PROGRESS_INTERVAL, &[one]), []);
        assert_eq!(watch.owed_at, None);
    }
}
