use std::collections::BTreeSet;
use std::fmt;

use super::Random;
use crate::{Consistency, Incarnation, Index, ReplicaId, StateMachine};

/// Identifies one client of the group. A client waits for the answer to one command or read before
/// it sends the next. A client whose command has an unknown outcome is never used again; a new
/// client with a new number takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNumber(pub u64);

/// The outcome of a command, as its client learns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<O> {
    /// The command was applied exactly once and returned this output.
    Output(O),
    /// The command was not applied and never will be.
    Refused,
    /// Unknown: the command may have been applied, may be applied later, or may never be applied.
    Unknown,
}

/// The behavior of the clients of a state machine, and the checks of their answers. Calls come in
/// the order of simulated time, so a workload can record a history.
pub trait Workload {
    /// The replicated state machine.
    type Machine: StateMachine<Output: Clone + PartialEq + fmt::Debug>;

    /// Returns the machine in its initial state, the same at each call.
    fn machine(&self) -> Self::Machine;

    /// Returns the consistency of the client's next read, or `None` if the client sends a command
    /// next. The simulation itself checks that each read is as fresh as its consistency demands.
    fn reads(&mut self, client: ClientNumber, random: &mut Random) -> Option<Consistency> {
        let _ = (client, random);
        None
    }

    /// Passes the state that the client's read sees; `None` if the read failed or its replica died.
    fn seen(&mut self, client: ClientNumber, state: Option<&Self::Machine>) {
        let _ = (client, state);
    }

    /// Returns the next command of this client.
    fn command(
        &mut self,
        client: ClientNumber,
        random: &mut Random,
    ) -> <Self::Machine as StateMachine>::Command;

    /// Passes the answer to the client's last command.
    fn answered(
        &mut self,
        client: ClientNumber,
        answer: Answer<<Self::Machine as StateMachine>::Output>,
    ) {
        let _ = (client, answer);
    }

    /// Checks the state of a replica after it has applied the entry at `index`. Called for each
    /// replica and each entry in log order, except for entries that the replica skipped by
    /// installing a snapshot.
    ///
    /// # Errors
    ///
    /// A description of what is wrong with the state.
    fn applied(
        &mut self,
        replica: ReplicaId,
        index: Index,
        machine: &Self::Machine,
    ) -> Result<(), String> {
        let _ = (replica, index, machine);
        Ok(())
    }

    /// Called when a majority of the stores was lost and an operator forces a new cluster at one
    /// replica, with the log that this replica has. Commands acknowledged before may be lost, and
    /// the outcome of commands in progress is unknown. From then on, [`applied`](Self::applied) is
    /// not called for replicas of the old cluster. Happens only with
    /// [`Parameters::disaster`](super::Parameters).
    fn forced(&mut self) {}

    /// Checks the final state, after an idle period, when all replicas have this same state.
    /// `members` are the incarnations that are members of the group; the log has recorded the
    /// departure of all earlier ones.
    ///
    /// # Errors
    ///
    /// A description of what is wrong with the state.
    fn at_rest(
        &mut self,
        machine: &Self::Machine,
        members: &BTreeSet<Incarnation>,
    ) -> Result<(), String> {
        let _ = (machine, members);
        Ok(())
    }

    /// Checks the recorded answers at the end of a run, when all replicas agree.
    ///
    /// # Errors
    ///
    /// A description of what is wrong with the answers.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A minimal workload: random commands, and occasional reads of every consistency. The only demand
/// on their answers is that all replicas compute the same.
#[derive(Debug)]
pub struct Commands<N, C> {
    new: N,
    command: C,
}

impl<M, N, C> Commands<N, C>
where
    M: StateMachine<Output: Clone + PartialEq + fmt::Debug>,
    N: Fn() -> M,
    C: FnMut(&mut Random) -> M::Command,
{
    /// Creates a workload. `new` creates the machine in its initial state, `command` draws a
    /// command.
    pub fn new(new: N, command: C) -> Self {
        Self { new, command }
    }
}

impl<M, N, C> Workload for Commands<N, C>
where
    M: StateMachine<Output: Clone + PartialEq + fmt::Debug>,
    N: Fn() -> M,
    C: FnMut(&mut Random) -> M::Command,
{
    type Machine = M;

    fn machine(&self) -> M {
        (self.new)()
    }

    fn reads(&mut self, _: ClientNumber, random: &mut Random) -> Option<Consistency> {
        let any = [Consistency::Linearizable, Consistency::ReadYourWrites, Consistency::Local];
        random.chance(200).then(|| random.pick(&any))
    }

    fn command(&mut self, _: ClientNumber, random: &mut Random) -> M::Command {
        (self.command)(random)
    }
}
