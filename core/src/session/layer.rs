use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::{Known, Table, Written};
use super::{Limits, Reply, Session, SessionCommand, SessionError};
use crate::snapshot::Snapshot;
use crate::wire::codec;
use crate::{Context, MembersChanged, StateMachine, Timestamp};

/// Version of the format of sessions in snapshots.
const VERSION: u16 = 1;

/// A layer over a state machine that gives its clients sessions. It is a [`StateMachine`] itself,
/// whose commands are [`SessionCommand`]s. Its application name is that of the inner state machine,
/// followed by `with sessions`.
#[derive(Debug)]
pub struct Sessions<M> {
    machine: M,
    limits: Limits,
    table: Table,
}

impl<M: StateMachine> Sessions<M> {
    /// Wraps a state machine, with the default limits.
    pub fn new(machine: M) -> Self {
        Self::with_limits(machine, Limits::default())
    }

    /// Wraps a state machine, with these limits. They must be the same at all replicas.
    pub fn with_limits(machine: M, limits: Limits) -> Self {
        Self { machine, limits, table: Table::default() }
    }

    /// Returns the inner state machine, for [reads](crate::Replica::read).
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Returns the number of open sessions.
    pub fn count(&self) -> usize {
        self.table.len()
    }
}

impl<M> StateMachine for Sessions<M>
where
    M: StateMachine<Output: Serialize + DeserializeOwned>,
{
    type Command = SessionCommand<M::Command>;
    type Output = Result<Reply<M::Output>, SessionError>;
    type Snapshot = View<M::Snapshot>;

    /// Returns a name that differs from that of the inner state machine, because commands and state
    /// differ.
    fn application() -> String {
        match M::application() {
            name if name.is_empty() => name,
            name => format!("{name} with sessions"),
        }
    }

    fn apply(&mut self, context: &Context, command: Self::Command) -> Self::Output {
        let now = context.time();
        match command {
            SessionCommand::Open => {
                let number = self.table.open(now, &self.limits)?;
                Ok(Reply::Opened(Session::new(number)))
            }
            SessionCommand::Command { session, sequence, done_below, command } => {
                self.table.touch(session, now, &self.limits)?;
                match self.table.look_up(session, sequence, done_below, &self.limits)? {
                    Known::Output(output) => {
                        // A new version of the application may have changed the type of outputs.
                        let output = codec::decode(&output);
                        output.map(Reply::Output).map_err(|_| SessionError::OutputLost)
                    }
                    Known::No => {
                        let output = self.machine.apply(context, command);
                        // An output that cannot be encoded is returned once and not kept, like one
                        // that is too large.
                        let encoded = codec::encode(&output).ok().map(Into::into);
                        self.table.applied(session, sequence, encoded, &self.limits);
                        Ok(Reply::Output(output))
                    }
                }
            }
            SessionCommand::Keep { session } => {
                self.table.touch(session, now, &self.limits).map(|()| Reply::Kept)
            }
            SessionCommand::Close { session } => {
                self.table.close(session);
                Ok(Reply::Closed)
            }
        }
    }

    fn snapshot(&self) -> Self::Snapshot {
        View { table: self.table.clone(), machine: self.machine.snapshot() }
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.table = read_table(from)?.into();
        self.machine.restore(from)
    }

    fn check_snapshot(from: &mut dyn io::Read) -> io::Result<()> {
        read_table(from)?;
        M::check_snapshot(from)
    }

    fn members_changed(&mut self, context: &Context, change: &MembersChanged) {
        self.machine.members_changed(context, change);
    }

    fn wake_at(&self) -> Option<Timestamp> {
        [self.table.next_end(), self.machine.wake_at()].into_iter().flatten().min()
    }

    fn wake(&mut self, context: &Context) {
        self.table.expire(context.time());
        if self.machine.wake_at().is_some_and(|at| at <= context.time()) {
            self.machine.wake(context);
        }
    }
}

/// Reads the sessions at the beginning of a snapshot. The state of the inner machine follows.
fn read_table(from: &mut dyn io::Read) -> io::Result<Written> {
    let mut version = [0; 2];
    from.read_exact(&mut version)?;
    let version = u16::from_le_bytes(version);
    if version != VERSION {
        return Err(io::Error::other(format!(
            "the sessions in the snapshot have format version {version}, but this program reads \
             version {VERSION}: run the same version at all replicas"
        )));
    }
    codec::read_first(from)
}

/// A snapshot of the sessions and of the inner state machine.
#[derive(Debug)]
pub struct View<S> {
    table: Table,
    machine: S,
}

impl<S: Snapshot> Snapshot for View<S> {
    fn write(self, to: &mut dyn io::Write) -> io::Result<()> {
        to.write_all(&VERSION.to_le_bytes())?;
        codec::write(to, &Written::from(self.table))?;
        self.machine.write(to)
    }
}
