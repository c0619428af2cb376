//! The group thread's use of the connection: events, sends, reconnecting and leaving.

use std::sync::Arc;
use std::time::Instant;

use cpg::{Connection, Dispatch, Event, Guarantee};
use crossbeam_channel::TryRecvError;

use super::{GroupThread, RETRY, TICK};
use crate::StateMachine;
use crate::engine::{Input, StopReason};
use crate::runtime::LEAVE_TIMEOUT;
use crate::wire::codec::{self, Frame};

impl<M: StateMachine> GroupThread<M> {
    /// Processes all delivered events. Returns true if there were any.
    pub(super) fn take_events(&mut self) -> bool {
        let Some(connection) = self.connection.clone() else { return self.reconnect() };
        match connection.dispatch(Dispatch::All, |event| self.take_event(&connection, event)) {
            Ok(count) => count > 0,
            Err(error) => {
                self.lose(error);
                false
            }
        }
    }

    /// Handles an error of the connection. If the transport has died, the replica joins again as a
    /// new member once it is back. Any other error stops the replica.
    pub(super) fn lose(&mut self, error: cpg::Error) {
        if !error.is_fatal() {
            self.shut_down(StopReason::Group(error));
        } else if self.connection.take().is_some() {
            tracing::warn!(%error, "the connection to the group is lost; reconnecting");
            // The protocol sends these messages again where they still matter.
            self.unsent.clear();
            self.retry_at = Instant::now();
            self.step(Input::Disconnected { reason: error.to_string() });
            self.publish();
        }
    }

    /// Tries to connect and join again, one attempt at a time. The transport may take long to
    /// answer, so an attempt runs on its own thread, and the group thread keeps deadlines
    /// meanwhile. Returns true if the replica has joined.
    pub(super) fn reconnect(&mut self) -> bool {
        let Some(joining) = &self.joining else {
            if Instant::now() >= self.retry_at {
                let name = format!("replica-{}-join", self.engine.config().incarnation.replica);
                match self.joiner.start_to_join(name) {
                    Ok(joining) => self.joining = Some(joining),
                    Err(error) => self.stays_disconnected(error.to_string()),
                }
            }
            return false;
        };
        let joined = match joining.try_recv() {
            Ok(joined) => joined,
            Err(TryRecvError::Empty) => return false,
            // The joining thread has panicked.
            Err(TryRecvError::Disconnected) => Err(cpg::Error::Library),
        };
        self.joining = None;
        match joined {
            Ok(connection) => {
                tracing::info!("the transport is back; joining as a new member");
                let connection = Arc::new(connection);
                self.shared.replace(Arc::clone(&connection));
                self.connection = Some(connection);
                true
            }
            Err(error) => {
                self.stays_disconnected(error.to_string());
                false
            }
        }
    }

    pub(super) fn stays_disconnected(&mut self, reason: String) {
        self.retry_at = Instant::now() + RETRY;
        self.step(Input::Disconnected { reason });
    }

    pub(super) fn take_event(&mut self, connection: &Connection, event: Event) {
        match event {
            Event::Deliver { sender, message } => match codec::decode_frame(&message) {
                Ok(frame) => {
                    let input = self.engine.delivered(sender, frame);
                    self.step(input);
                }
                Err(error) => {
                    if self.undecodable.insert(sender) {
                        tracing::warn!(
                            member = %sender, %error,
                            "a member of the group sends messages that cannot be read; they are \
                             ignored, and this is logged once for each member"
                        );
                    }
                }
            },
            Event::Configuration(configuration) => {
                let joined = configuration.joined.iter().map(|change| change.member).collect();
                self.undecodable.retain(|member| configuration.members.contains(member));
                self.step(Input::Configuration {
                    local: connection.local_member(),
                    members: configuration.members,
                    joined,
                });
                self.publish();
            }
            Event::Ring(ring) => tracing::debug!(id = %ring.id, "a new ring was formed"),
        }
    }

    /// Sends queued frames in order. If the transport is busy, the rest stays queued for the next
    /// iteration.
    pub(super) fn send(&mut self) {
        let Some(connection) = self.connection.clone() else { return self.unsent.clear() };
        while let Some(frame) = self.unsent.front() {
            match connection.multicast(Guarantee::Agreed, &frame.slices()) {
                Ok(()) => {
                    self.unsent.pop_front();
                }
                Err(error) if error.is_retryable() => return,
                Err(error) => return self.lose(error),
            }
        }
    }

    /// Reports the unsent frames to the engine. Returns true if the last of them was just sent.
    pub(super) fn report_unsent(&mut self) -> bool {
        let (was, frames) = (self.is_backed_up, self.unsent.len());
        self.is_backed_up = frames > 0;
        let bytes = self.unsent.iter().map(Frame::len).sum();
        self.step(Input::Unsent { frames, bytes });
        was && !self.is_backed_up
    }

    /// Leaves the group and waits for the confirmation, so that the other members notice at once.
    pub(super) fn leave(&mut self) {
        let Some(connection) = &self.connection else { return };
        let (local, deadline) = (connection.local_member(), Instant::now() + LEAVE_TIMEOUT);
        let mut left = connection.leave().is_err();
        while !left && Instant::now() < deadline {
            let dispatched = connection.dispatch(Dispatch::All, |event| {
                if let Event::Configuration(configuration) = event {
                    left |= configuration.left.iter().any(|change| change.member == local);
                }
            });
            left |= dispatched.is_err();
            if !left && connection.wait(Some(TICK)).is_err() {
                left = true;
            }
        }
    }
}
