use std::io::IoSlice;
use std::time::{Duration, Instant};

use crate::{
    Connection, Dispatch, Error, Event, GroupEntry, GroupName, Guarantee, Iteration, Result,
};

/// A connection that a case works with, here or in another process.
pub trait Member: Send {
    /// [`Connection::join`].
    fn join(&mut self, group: &GroupName) -> Result<()>;
    /// [`Connection::leave`].
    fn leave(&mut self) -> Result<()>;
    /// [`Connection::multicast`].
    fn multicast(&mut self, guarantee: Guarantee, message: &[&[u8]]) -> Result<()>;
    /// The next event, waited for at most that long.
    fn next(&mut self, timeout: Duration) -> Result<Option<Event>>;
    /// [`Connection::members`].
    fn members(&mut self, group: &GroupName) -> Result<Vec<crate::Member>>;
    /// [`Connection::groups`].
    fn groups(&mut self, iteration: &Iteration) -> Result<Vec<GroupEntry>>;
    /// [`Connection::local_member`].
    fn local_member(&mut self) -> crate::Member;
    /// [`Connection::max_atomic_message_size`].
    fn max_atomic_message_size(&mut self) -> usize;
    /// Closes the connection, by dropping it.
    fn close(self: Box<Self>);
    /// Kills the process; where there is none of its own, the same as closing.
    fn kill(self: Box<Self>);
}

/// A connection of this process as a [`Member`].
#[derive(Debug)]
pub struct Local(pub Connection);

impl Member for Local {
    fn join(&mut self, group: &GroupName) -> Result<()> {
        self.0.join(group)
    }

    fn leave(&mut self) -> Result<()> {
        self.0.leave()
    }

    fn multicast(&mut self, guarantee: Guarantee, message: &[&[u8]]) -> Result<()> {
        let slices: Vec<_> = message.iter().map(|slice| IoSlice::new(slice)).collect();
        self.0.multicast(guarantee, &slices)
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<Event>> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut next = None;
            match self.0.dispatch(Dispatch::OneNonblocking, |event| next = Some(event)) {
                Ok(_) if next.is_some() => return Ok(next),
                Ok(_) | Err(Error::TryAgain) => {}
                Err(error) => return Err(error),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.0.wait(Some(left))? && left.is_zero() {
                return Ok(None);
            }
        }
    }

    fn members(&mut self, group: &GroupName) -> Result<Vec<crate::Member>> {
        self.0.members(group)
    }

    fn groups(&mut self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        self.0.groups(iteration).map(Iterator::collect)
    }

    fn local_member(&mut self) -> crate::Member {
        self.0.local_member()
    }

    fn max_atomic_message_size(&mut self) -> usize {
        self.0.max_atomic_message_size()
    }

    fn close(self: Box<Self>) {}

    fn kill(self: Box<Self>) {}
}
