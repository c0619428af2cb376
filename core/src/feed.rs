use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::Index;

/// Tells what happens, in order, to any number of [`Watcher`]s. Clones are handles on the same.
///
/// A state machine that has one pushes what its commands change, so that others in the process
/// need not ask again and again. It is no part of the state and has no effect on it. To go on
/// from a state without a gap, call [`watch`](Self::watch) in the [read](crate::Replica::read)
/// that looks at it.
///
/// # Limits
///
/// The newest items are kept, so many as it was made for. Whoever tells never waits for whoever
/// listens: a watcher that is too slow hears [`News::Missed`], and has to look at the state.
pub struct Feed<T>(Arc<Source<T>>);

/// What the handles share; it goes with the last of them.
struct Source<T>(Arc<Mutex<Ring<T>>>);

/// Hears what a [`Feed`] tells, in order, from some place on.
pub struct Watcher<T> {
    ring: Arc<Mutex<Ring<T>>>,
    number: u64,
    /// The number of the item that it hears next.
    next: u64,
}

/// What a [`Watcher`] hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News<T> {
    /// This happened, at that place of the log.
    Item(Index, T),
    /// So many items were missed; or nobody knows how many, where the replica has gone on from
    /// a snapshot. What comes next is behind them.
    Missed(Option<u64>),
}

/// What happened behind a place of the log is not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what happened there is not kept any more: read the state, and watch from now on")]
pub struct Forgotten;

struct Ring<T> {
    items: VecDeque<(Index, T)>,
    capacity: usize,
    /// The number of the first item that is kept. They count from zero, jumps included.
    first: u64,
    /// What happened at this index or before may not be among those kept; `None` right behind a
    /// jump, when nobody knows.
    forgotten: Option<Index>,
    /// The number of the last jump.
    jump: Option<u64>,
    watchers: u64,
    /// Nobody is left who could tell more.
    is_over: bool,
    /// Those who wait.
    wakers: BTreeMap<u64, Waker>,
}

impl<T> Feed<T> {
    /// Keeps so many items, one at least.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Source(Arc::new(Mutex::new(Ring {
            items: VecDeque::new(),
            capacity: capacity.max(1),
            first: 0,
            forgotten: Some(Index(0)),
            jump: None,
            watchers: 0,
            is_over: false,
            wakers: BTreeMap::new(),
        })))))
    }

    /// Something happened at that place of the log, which never goes back.
    pub fn push(&self, index: Index, item: T) {
        let mut ring = lock(&self.0.0);
        ring.forgotten.get_or_insert(index);
        if ring.items.len() >= ring.capacity
            && let Some((index, _)) = ring.items.pop_front()
        {
            ring.first += 1;
            ring.forgotten = ring.forgotten.max(Some(index));
        }
        ring.items.push_back((index, item));
        ring.wake();
    }

    /// To be called in [`restore`](crate::StateMachine::restore): what happened on the way to
    /// the new state is not known.
    pub fn jump(&self) {
        let mut ring = lock(&self.0.0);
        let next = ring.next();
        ring.items.clear();
        (ring.first, ring.jump, ring.forgotten) = (next + 1, Some(next), None);
        ring.wake();
    }

    /// Hears what happens from now on.
    pub fn watch(&self) -> Watcher<T> {
        let next = lock(&self.0.0).next();
        self.watch_from(next)
    }

    /// Hears what happened behind a place of the log, and what happens from now on. What came
    /// with one batch of commands has one place.
    ///
    /// # Errors
    ///
    /// Not all of that is kept, or not for sure.
    pub fn watch_after(&self, index: Index) -> Result<Watcher<T>, Forgotten> {
        let ring = lock(&self.0.0);
        if ring.forgotten.is_none_or(|forgotten| index < forgotten) {
            return Err(Forgotten);
        }
        let next = ring.first + ring.items.partition_point(|(at, _)| *at <= index) as u64;
        drop(ring);
        Ok(self.watch_from(next))
    }

    fn watch_from(&self, next: u64) -> Watcher<T> {
        let mut ring = lock(&self.0.0);
        ring.watchers += 1;
        Watcher { ring: Arc::clone(&self.0.0), number: ring.watchers, next }
    }
}

impl<T> Ring<T> {
    /// The number of the item that comes next.
    fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    fn wake(&mut self) {
        std::mem::take(&mut self.wakers).into_values().for_each(Waker::wake);
    }
}

impl<T: Clone> Ring<T> {
    /// What a watcher hears that is at that number, and the number that it is at then.
    fn after(&self, number: u64) -> Option<(News<T>, u64)> {
        if number < self.first {
            let unknown = self.jump.is_some_and(|jump| number <= jump);
            let missed = (!unknown).then_some(self.first - number);
            return Some((News::Missed(missed), self.first));
        }
        let at = usize::try_from(number - self.first).ok()?;
        let (index, item) = self.items.get(at)?.clone();
        Some((News::Item(index, item), number + 1))
    }
}

impl<T> Drop for Source<T> {
    /// Watchers hear what is left, and that this is the end.
    fn drop(&mut self) {
        let mut ring = lock(&self.0);
        ring.is_over = true;
        ring.wake();
    }
}

impl<T: Clone> Watcher<T> {
    /// What happened next, if it has happened already.
    pub fn try_next(&mut self) -> Option<News<T>> {
        let ring = lock(&self.ring);
        let (news, next) = ring.after(self.next)?;
        drop(ring);
        self.next = next;
        Some(news)
    }

    /// Waits for what happens next. `None`: there is no more, and all handles on the feed are
    /// gone.
    pub async fn next(&mut self) -> Option<News<T>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// The same on a thread that has nothing else to do.
    pub fn wait(&mut self) -> Option<News<T>> {
        self.wait_until(None).unwrap_or(None)
    }

    /// The same for so long at most.
    ///
    /// # Errors
    ///
    /// Nothing has happened in that time.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<News<T>>, TimedOut> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<Option<News<T>>, TimedOut> {
        let waker = Arc::new(Unpark(thread::current())).into();
        let mut context = Context::from_waker(&waker);
        let mut next = pin!(self.next());
        loop {
            if let Poll::Ready(news) = next.as_mut().poll(&mut context) {
                return Ok(news);
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return Err(TimedOut),
                Some(left) => thread::park_timeout(left),
            }
        }
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<News<T>>> {
        let mut ring = lock(&self.ring);
        match ring.after(self.next) {
            Some((news, next)) => {
                self.next = next;
                Poll::Ready(Some(news))
            }
            None if ring.is_over => Poll::Ready(None),
            None => {
                ring.wakers.insert(self.number, context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Nothing has happened in the time given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing has happened in that time")]
pub struct TimedOut;

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        lock(&self.ring).wakers.remove(&self.number);
    }
}

/// Nothing that is done under the lock can leave it half done.
fn lock<T>(ring: &Mutex<Ring<T>>) -> MutexGuard<'_, Ring<T>> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed(..)")
    }
}

impl<T> fmt::Debug for Watcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(index: u64, item: &'static str) -> Option<News<&'static str>> {
        Some(News::Item(Index(index), item))
    }

    #[test]
    fn a_watcher_hears_everything_in_order_from_its_place_on() {
        let feed = Feed::new(10);
        feed.push(Index(1), "a");
        let mut from_now = feed.watch();
        feed.push(Index(3), "b");
        feed.push(Index(3), "c");
        let mut after_one = feed.watch_after(Index(1)).unwrap();
        let mut after_two = feed.watch_after(Index(2)).unwrap();
        let mut after_three = feed.watch_after(Index(3)).unwrap();
        feed.push(Index(4), "d");
        for watcher in [&mut from_now, &mut after_one, &mut after_two] {
            assert_eq!(watcher.wait(), item(3, "b"));
            assert_eq!(watcher.wait(), item(3, "c"));
        }
        for watcher in [&mut from_now, &mut after_one, &mut after_two, &mut after_three] {
            assert_eq!(watcher.wait(), item(4, "d"));
            assert_eq!(watcher.try_next(), None);
        }
    }

    #[test]
    fn who_is_too_slow_hears_how_much_was_missed() {
        let feed = Feed::new(2);
        let mut watcher = feed.watch();
        for (index, name) in [(1, "a"), (2, "b"), (2, "c"), (4, "d"), (5, "e")] {
            feed.push(Index(index), name);
        }
        assert_eq!(watcher.wait(), Some(News::Missed(Some(3))));
        assert_eq!(watcher.wait(), item(4, "d"));
        assert_eq!(watcher.wait(), item(5, "e"));
        assert_eq!(feed.watch_after(Index(1)).err(), Some(Forgotten));
        assert_eq!(feed.watch_after(Index(2)).unwrap().try_next(), item(4, "d"));
    }

    #[test]
    fn behind_a_jump_nobody_knows_what_was_missed() {
        let feed = Feed::new(9);
        let mut watcher = feed.watch();
        feed.push(Index(1), "a");
        feed.jump();
        assert_eq!(feed.watch_after(Index(1)).err(), Some(Forgotten));
        let mut later = feed.watch();
        feed.push(Index(9), "b");
        assert_eq!(watcher.wait(), Some(News::Missed(None)));
        assert_eq!(watcher.wait(), item(9, "b"));
        assert_eq!(later.wait(), item(9, "b"));
        assert_eq!(feed.watch_after(Index(8)).err(), Some(Forgotten));
        assert_eq!(feed.watch_after(Index(9)).unwrap().try_next(), None);
    }

    #[test]
    fn who_waits_is_woken_by_what_happens_and_by_the_end() {
        let feed = Feed::new(9);
        let mut watcher = feed.watch();
        let short = Duration::from_millis(1);
        assert_eq!(watcher.wait_timeout(short), Err(TimedOut));
        let heard = thread::spawn(move || (watcher.wait(), watcher.wait()));
        while lock(&feed.0.0).wakers.is_empty() {
            thread::yield_now();
        }
        feed.push(Index(1), "a");
        while lock(&feed.0.0).wakers.is_empty() {
            thread::yield_now();
        }
        let mut behind = feed.clone().watch();
        drop(feed);
        assert_eq!(heard.join().unwrap(), (item(1, "a"), None));
        assert_eq!(behind.wait(), None);
    }
}
