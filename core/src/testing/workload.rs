use std::collections::BTreeSet;
use std::fmt;

use super::Random;
use crate::{Consistency, Incarnation, Index, ReplicaId, StateMachine};

/// One client of the group: it waits for the answer to one command or read before the next. A
/// client whose command's outcome is unknown is never heard of again; another comes in its
/// place, with a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNumber(pub u64);

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<O> {
    /// It was applied, once, and gave this.
    Output(O),
    /// It was not applied and never will be.
    Refused,
    /// It may have been applied, or be applied some time later, or not at all.
    Unknown,
}

/// What clients do with a state machine, and what they make of the answers. Calls come in
/// the order of the simulated time, so a workload can keep a history.
pub trait Workload {
    /// What is replicated.
    type Machine: StateMachine<Output: Clone + PartialEq + fmt::Debug>;

    /// The machine in its initial state, the same each time.
    fn machine(&self) -> Self::Machine;

    /// Whether that client reads next, and how fresh; if not, it is asked for a command.
    /// Whatever is read, it is checked that it was as fresh as that.
    fn reads(&mut self, client: ClientNumber, random: &mut Random) -> Option<Consistency> {
        let _ = (client, random);
        None
    }

    /// What that client's read sees; nothing if it failed, or its replica died.
    fn seen(&mut self, client: ClientNumber, state: Option<&Self::Machine>) {
        let _ = (client, state);
    }

    /// The next command of that client.
    fn command(
        &mut self,
        client: ClientNumber,
        random: &mut Random,
    ) -> <Self::Machine as StateMachine>::Command;

    /// The answer to that client's last command.
    fn answered(
        &mut self,
        client: ClientNumber,
        answer: Answer<<Self::Machine as StateMachine>::Output>,
    ) {
        let _ = (client, answer);
    }

    /// A replica has applied the entry at that index and has this state now: whether the
    /// state is right. Each replica comes by with each entry in the order, but for those that
    /// a snapshot spared it.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    fn applied(
        &mut self,
        replica: ReplicaId,
        index: Index,
        machine: &Self::Machine,
    ) -> Result<(), String> {
        let _ = (replica, index, machine);
        Ok(())
    }

    /// A majority of the stores was lost, and an operator forces one replica to go on alone,
    /// with what it has. What was acknowledged before may be lost, and nobody can tell what
    /// becomes of commands that are under way. What replicas of the old cluster apply is not
    /// shown from then on. Happens only with [`Parameters::disaster`](super::Parameters).
    fn forced(&mut self) {}

    /// At the end, when nobody has proposed anything for a while and all replicas have this
    /// state: whether it is right. `members` are the runs of replicas that are there, all that
    /// were there before have left in the order.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    fn at_rest(
        &mut self,
        machine: &Self::Machine,
        members: &BTreeSet<Incarnation>,
    ) -> Result<(), String> {
        let _ = (machine, members);
        Ok(())
    }

    /// At the end, when all replicas agree: whether the answers were right.
    ///
    /// # Errors
    ///
    /// What was wrong with them, in words.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The shortest workload: commands drawn at random, whose answers only have to be the same
/// everywhere, and now and then a read of any kind.
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
    /// `new` makes the machine in its initial state, `command` draws commands.
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
