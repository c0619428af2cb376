//! A client whose commands take effect exactly once, although its replica dies.
//!
//!     cargo run -p plainsong --example exactly_once
//!
//! A client that gets no answer does not know whether its command was applied. `Sessions` wraps a
//! state machine so that the client may simply propose the command again, at any replica: the
//! first time it is applied, and every further time its first output is returned.

use std::error::Error;
use std::time::Duration;

use plainsong::session::{Reply, Session, SessionCommand, SessionError, Sessions};
use plainsong::{Consistency, Context, Replica, ReplicaId, StateMachine};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Output = u64;

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    plainsong::snapshot_by_clone!();
}

type Counters = [Option<Replica<Sessions<Counter>>>; 3];

/// Time after which the client tries another replica.
const PATIENCE: Duration = Duration::from_secs(5);

/// Proposes a command at one replica after the other until one of them answers.
fn propose(replicas: &Counters, command: &SessionCommand<u64>) -> Result<Reply<u64>, SessionError> {
    loop {
        for replica in replicas.iter().flatten() {
            match replica.propose(command.clone()).wait_timeout(PATIENCE) {
                Ok(Err(SessionError::TooManyUnderWay | SessionError::TooManySessions)) => {}
                Ok(reply) => return reply,
                // Any error of replication: whether or not the command may still take effect, it
                // is safe to propose it again.
                Err(error) => eprintln!("again, because: {error}"),
            }
        }
    }
}

/// A client. Saved before each proposal, it can resume after a restart without applying anything
/// twice: save this together with the command, for example in a file.
#[derive(Serialize, Deserialize)]
struct Client {
    session: Session,
    in_flight: Option<SessionCommand<u64>>,
}

impl Client {
    /// A client that gets no answer to `Open` opens another session; an unused one expires.
    fn open(replicas: &Counters) -> Result<Self, Box<dyn Error>> {
        match propose(replicas, &SessionCommand::Open)? {
            Reply::Opened(session) => Ok(Self { session, in_flight: None }),
            other => Err(format!("opening a session is answered by {other:?}").into()),
        }
    }

    /// Numbers the next command. Save the client now, then call [`finish`](Self::finish).
    fn begin(&mut self, add: u64) -> SessionCommand<u64> {
        let command = self.session.command(add);
        self.in_flight = Some(command.clone());
        command
    }

    fn finish(&mut self, replicas: &Counters) -> Result<Option<u64>, Box<dyn Error>> {
        let Some(command) = self.in_flight.take() else { return Ok(None) };
        match propose(replicas, &command)? {
            Reply::Output(total) => {
                // The group may forget the output now.
                self.session.done(&command);
                Ok(Some(total))
            }
            other => Err(format!("a command is answered by {other:?}").into()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let ring = cpg::embedded::LocalRing::new();
    let voters = [1, 2, 3].map(ReplicaId);
    let mut replicas: Counters = [None, None, None];
    for (replica, id) in replicas.iter_mut().zip(voters) {
        // The same limits at all replicas, because they decide what each answers.
        let builder = Replica::builder(id, Sessions::new(Counter::default()));
        *replica = Some(builder.transport(ring.node()).bootstrap(voters).start()?);
    }

    let mut client = Client::open(&replicas)?;
    client.begin(5);
    println!("5 is added: {:?}", client.finish(&replicas)?);

    // The command is applied, but its answer is lost together with the replica.
    let command = client.begin(2);
    if let Some(replica) = replicas[0].take() {
        replica.propose(command).wait()??;
        replica.stop();
    }
    println!("replica 1 is gone, and the answer with it");

    // The client proposes the same command again, elsewhere.
    println!("2 is added: {:?}", client.finish(&replicas)?);

    let total = |counter: &Sessions<Counter>| counter.machine().0;
    if let Some(replica) = &replicas[2] {
        println!("total: {}", replica.read(Consistency::Linearizable, total).wait()?);
    }
    propose(&replicas, &client.session.close())?;
    Ok(())
}
