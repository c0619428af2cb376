use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::Index;

/// An ordered stream of items for any number of [`Watcher`]s. Clones are handles on the same feed.
///
/// A state machine that owns a feed pushes the changes made by its commands, so that the rest of
/// the process need not poll the state. The feed is not part of the state and has no effect on it:
/// skip it when serializing the state, and call [`jump`](Self::jump) in `restore`. To continue from
/// a state without a gap, call [`watch`](Self::watch) inside the [read](crate::Replica::read) that
/// returns this state.
///
/// # Examples
///
/// ```
/// use plainsong::{Feed, Index, News};
///
/// let feed = Feed::new(100);
/// let mut watcher = feed.watch();
/// feed.push(Index(1), "created");
/// assert_eq!(watcher.wait(), Some(News::Item(Index(1), "created")));
/// ```
///
/// # Limits
///
/// A feed keeps its newest items, up to its capacity. Pushing never waits for watchers: a watcher
/// that is too slow receives [`News::Lagged`] and must read the state again.
pub struct Feed<T>(Arc<Source<T>>);

/// The state shared by all handles. Dropped with the last handle.
struct Source<T>(Arc<Mutex<Buffer<T>>>);

/// A receiver of the items of a [`Feed`], in order, beginning at the item chosen when it was
/// created.
pub struct Watcher<T> {
    buffer: Arc<Mutex<Buffer<T>>>,
    number: u64,
    /// The number of the item to return next.
    next: u64,
}

/// An element of a [`Watcher`]'s stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News<T> {
    /// An item, and the log index at which it was pushed.
    Item(Index, T),
    /// The watcher lost this many items, because it was too slow; `None` if the number is unknown,
    /// because the state was replaced by a snapshot. The stream continues after the lost items.
    Lagged(Option<u64>),
}

/// The feed no longer has all items after the requested index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events after this index have been dropped: read the state and watch from now on")]
pub struct Compacted;

struct Buffer<T> {
    items: VecDeque<(Index, T)>,
    capacity: usize,
    /// The number of the first buffered item. Numbers start at zero; a jump takes a number too.
    first: u64,
    /// Items at this index and before may have been dropped; `None` right after a jump, when the
    /// index is unknown.
    compacted_through: Option<Index>,
    /// The number of the last jump.
    jump: Option<u64>,
    watchers: u64,
    /// Set once all feed handles have been dropped.
    is_closed: bool,
    /// The waiting watchers, by number.
    wakers: BTreeMap<u64, Waker>,
}

impl<T> Feed<T> {
    /// Creates a feed that keeps up to `capacity` items, at least one.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Source(Arc::new(Mutex::new(Buffer {
            items: VecDeque::new(),
            capacity: capacity.max(1),
            first: 0,
            compacted_through: Some(Index(0)),
            jump: None,
            watchers: 0,
            is_closed: false,
            wakers: BTreeMap::new(),
        })))))
    }

    /// Appends an item. `index` must not be lower than that of the previous item. Never waits for
    /// watchers.
    pub fn push(&self, index: Index, item: T) {
        let mut buffer = lock(&self.0.0);
        buffer.compacted_through.get_or_insert(index);
        if buffer.items.len() >= buffer.capacity
            && let Some((index, _)) = buffer.items.pop_front()
        {
            buffer.first += 1;
            buffer.compacted_through = buffer.compacted_through.max(Some(index));
        }
        buffer.items.push_back((index, item));
        buffer.wake();
    }

    /// Marks a gap of unknown length. Call it in [`restore`](crate::StateMachine::restore), because
    /// the changes that led to the restored state are unknown.
    pub fn jump(&self) {
        let mut buffer = lock(&self.0.0);
        let next = buffer.next();
        buffer.items.clear();
        (buffer.first, buffer.jump, buffer.compacted_through) = (next + 1, Some(next), None);
        buffer.wake();
    }

    /// Watches the items that are pushed from now on.
    pub fn watch(&self) -> Watcher<T> {
        let next = lock(&self.0.0).next();
        self.watch_from(next)
    }

    /// Watches the items after `index`, including those that were pushed already. All commands of a
    /// batch share one index.
    ///
    /// # Errors
    ///
    /// [`Compacted`] if some of these items have been dropped, or may have been.
    pub fn watch_after(&self, index: Index) -> Result<Watcher<T>, Compacted> {
        let buffer = lock(&self.0.0);
        if buffer.compacted_through.is_none_or(|compacted_through| index < compacted_through) {
            return Err(Compacted);
        }
        let next = buffer.first + buffer.items.partition_point(|(at, _)| *at <= index) as u64;
        drop(buffer);
        Ok(self.watch_from(next))
    }

    fn watch_from(&self, next: u64) -> Watcher<T> {
        let mut buffer = lock(&self.0.0);
        buffer.watchers += 1;
        Watcher { buffer: Arc::clone(&self.0.0), number: buffer.watchers, next }
    }
}

impl<T> Buffer<T> {
    /// The number of the next item to be pushed.
    fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    fn wake(&mut self) {
        std::mem::take(&mut self.wakers).into_values().for_each(Waker::wake);
    }
}

impl<T: Clone> Buffer<T> {
    /// Returns the element for a watcher at `number`, and the watcher's next number.
    fn after(&self, number: u64) -> Option<(News<T>, u64)> {
        if number < self.first {
            let unknown = self.jump.is_some_and(|jump| number <= jump);
            let missed = (!unknown).then_some(self.first - number);
            return Some((News::Lagged(missed), self.first));
        }
        let at = usize::try_from(number - self.first).ok()?;
        let (index, item) = self.items.get(at)?.clone();
        Some((News::Item(index, item), number + 1))
    }
}

impl<T> Drop for Source<T> {
    /// Lets watchers drain what is buffered and then see the end of the stream.
    fn drop(&mut self) {
        let mut buffer = lock(&self.0);
        buffer.is_closed = true;
        buffer.wake();
    }
}

impl<T: Clone> Watcher<T> {
    /// Returns the next element if there is one now, without waiting.
    pub fn try_next(&mut self) -> Option<News<T>> {
        let buffer = lock(&self.buffer);
        let (news, next) = buffer.after(self.next)?;
        drop(buffer);
        self.next = next;
        Some(news)
    }

    /// Waits for the next element. Returns `None` once all handles on the feed have been dropped
    /// and the buffered items have been returned.
    ///
    /// Cancel safe: no element is lost if the future is dropped. Works with any executor.
    pub async fn next(&mut self) -> Option<News<T>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Waits for the next element and blocks the thread meanwhile; see [`next`](Self::next).
    pub fn wait(&mut self) -> Option<News<T>> {
        self.wait_until(None).unwrap_or(None)
    }

    /// Waits for the next element for up to `timeout`; see [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// [`TimedOut`] if there is none in that time.
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
        let mut buffer = lock(&self.buffer);
        match buffer.after(self.next) {
            Some((news, next)) => {
                self.next = next;
                Poll::Ready(Some(news))
            }
            None if buffer.is_closed => Poll::Ready(None),
            None => {
                buffer.wakers.insert(self.number, context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A [`Watcher`] received nothing in the given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no event in time")]
pub struct TimedOut;

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        lock(&self.buffer).wakers.remove(&self.number);
    }
}

/// Locks the buffer. Poisoning is ignored, because no change under the lock can be left half done.
fn lock<T>(buffer: &Mutex<Buffer<T>>) -> MutexGuard<'_, Buffer<T>> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_watcher_receives_all_items_in_order_from_its_starting_point() {
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
    fn a_slow_watcher_receives_the_number_of_lost_items() {
        let feed = Feed::new(2);
        let mut watcher = feed.watch();
        for (index, name) in [(1, "a"), (2, "b"), (2, "c"), (4, "d"), (5, "e")] {
            feed.push(Index(index), name);
        }
        assert_eq!(watcher.wait(), Some(News::Lagged(Some(3))));
        assert_eq!(watcher.wait(), item(4, "d"));
        assert_eq!(watcher.wait(), item(5, "e"));
        assert_eq!(feed.watch_after(Index(1)).err(), Some(Compacted));
        assert_eq!(feed.watch_after(Index(2)).unwrap().try_next(), item(4, "d"));
    }

    #[test]
    fn the_number_of_items_lost_by_a_jump_is_unknown() {
        let feed = Feed::new(9);
        let mut watcher = feed.watch();
        feed.push(Index(1), "a");
        feed.jump();
        assert_eq!(feed.watch_after(Index(1)).err(), Some(Compacted));
        let mut later = feed.watch();
        feed.push(Index(9), "b");
        assert_eq!(watcher.wait(), Some(News::Lagged(None)));
        assert_eq!(watcher.wait(), item(9, "b"));
        assert_eq!(later.wait(), item(9, "b"));
        assert_eq!(feed.watch_after(Index(8)).err(), Some(Compacted));
        assert_eq!(feed.watch_after(Index(9)).unwrap().try_next(), None);
    }

    #[test]
    fn an_item_and_the_end_of_the_feed_wake_a_waiting_watcher() {
        let feed = Feed::new(9);
        let mut watcher = feed.watch();
        let short = Duration::from_millis(1);
        assert_eq!(watcher.wait_timeout(short), Err(TimedOut));
        let received = thread::spawn(move || (watcher.wait(), watcher.wait()));
        while lock(&feed.0.0).wakers.is_empty() {
            thread::yield_now();
        }
        feed.push(Index(1), "a");
        while lock(&feed.0.0).wakers.is_empty() {
            thread::yield_now();
        }
        let mut behind = feed.clone().watch();
        drop(feed);
        assert_eq!(received.join().unwrap(), (item(1, "a"), None));
        assert_eq!(behind.wait(), None);
    }
}
