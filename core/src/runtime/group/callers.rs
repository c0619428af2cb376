use crossbeam_channel::{Receiver, select};

use super::super::{AdminCommand, GroupCommand, Proposal, QueuedProposal, fail};
use crate::StateMachine;
use crate::engine::{AdminError, Status, StopReason};
use crate::read::{Read, ReadError};

/// The queues in which callers put their requests for the group thread.
pub(crate) struct Callers<M: StateMachine> {
    pub(crate) proposals: Receiver<GroupCommand<M>>,
    /// Linearizable reads.
    pub(crate) to_read: Receiver<Read<M>>,
    pub(crate) admin_commands: Receiver<AdminCommand>,
}

impl<M: StateMachine> Clone for Callers<M> {
    fn clone(&self) -> Self {
        Self {
            proposals: self.proposals.clone(),
            to_read: self.to_read.clone(),
            admin_commands: self.admin_commands.clone(),
        }
    }
}

impl<M: StateMachine> Callers<M> {
    /// Rejects all requests, queued and new ones, until the replica's handle is dropped. None of
    /// them takes effect. A queue alone would keep them without an answer, because it lives as long
    /// as the handle.
    pub(super) fn reject(&self, status: &Status) {
        let reason = status.stopped.clone().unwrap_or(StopReason::Asked);
        let reject_read = |read: Read<M>| read(Err(ReadError::Stopped(reason.clone())));
        loop {
            select! {
                recv(self.proposals) -> next => match next {
                    Ok(GroupCommand::Propose(QueuedProposal(Proposal { caller, .. }, _))) => {
                        fail(vec![caller], false, status);
                    }
                    Ok(GroupCommand::Read(read)) => reject_read(read),
                    Err(_) => return,
                },
                recv(self.to_read) -> read => match read {
                    Ok(read) => reject_read(read),
                    Err(_) => return,
                },
                recv(self.admin_commands) -> command => match command {
                    Ok(AdminCommand { caller, .. }) => {
                        // The operator may have stopped waiting.
                        let _ = caller.send(Err(AdminError::Stopped(reason.clone())));
                    }
                    Err(_) => return,
                },
            }
        }
    }
}
