use std::io::{self, BufRead, Write};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{bar, safe};
use crate::arguments::seconds;
use crate::resp::Reply;
use crate::{Address, Unanswered, ask_first};

/// Operator subcommands, the same in each program.
#[derive(Debug, Subcommand)]
pub enum Operate {
    /// Prints the status of a replica, what it is waiting for, and the members of its group.
    Status {
        /// Keeps updating one line until Ctrl-C, with a progress bar while the replica receives a
        /// snapshot.
        #[arg(long)]
        watch: bool,
        /// The replica to ask.
        #[command(flatten)]
        at: At,
    },
    /// Prints or changes the members of the group.
    ///
    /// Without a subcommand, prints the members, their votes and their progress.
    Members {
        /// Waits until it is safe to restart another replica: every voter is in the group, has
        /// caught up, and knows the current voters.
        ///
        /// Ask the replica that was restarted last. Prints each reason to wait on stderr.
        #[arg(long)]
        wait_safe: bool,
        /// Maximum time that --wait-safe waits, in seconds from 0.001 to 86400. Exits with status
        /// 75 when it is over.
        #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
        timeout: Duration,
        /// The change; prints the members if there is none.
        #[command(subcommand)]
        change: Option<Change>,
        /// The replica to ask.
        #[command(flatten)]
        at: At,
    },
    /// Makes one replica the only voter of a new cluster, after a majority is lost for good.
    ///
    /// Prints what may be lost and asks for confirmation twice.
    ForceNewCluster {
        /// The replica to ask.
        #[command(flatten)]
        at: At,
    },
}

/// Changes of the voters.
#[derive(Debug, Subcommand)]
pub enum Change {
    /// Prints the members, their votes and their progress.
    List,
    /// Adds a voter.
    ///
    /// The replica must be running, started without --voters. Waits until it has caught up and
    /// votes, for at most 30 seconds; the change stays pending after that.
    Add {
        /// Id of the replica.
        #[arg(value_name = "ID")]
        id: u32,
    },
    /// Removes a voter.
    ///
    /// The replica keeps running as a learner; stop it afterwards.
    Remove {
        /// Id of the replica.
        #[arg(value_name = "ID")]
        id: u32,
    },
    /// Replaces a voter with another replica in one step.
    ///
    /// The old one votes until the new one does.
    Replace {
        /// Id of the voter to replace.
        #[arg(value_name = "OLD_ID")]
        old: u32,
        /// Id of the replica that takes its place. It must be running, started without --voters.
        #[arg(value_name = "NEW_ID")]
        new: u32,
    },
}

/// The option `--at`, which all operator subcommands have.
#[derive(Clone, Debug, Args)]
pub struct At {
    /// Addresses of replicas: HOST:PORT, or the path of a Unix socket (it must contain a slash).
    ///
    /// The first replica that answers gets the request.
    #[arg(
        long = "at",
        value_name = "ADDRESS,...",
        value_delimiter = ',',
        env = "PLAINSONG_AT",
        global = true
    )]
    addresses: Vec<Address>,
}

impl At {
    /// Returns the addresses given.
    ///
    /// # Errors
    ///
    /// Returns [`OperatorError::Nowhere`] if there are none. (The option is global, and clap does
    /// not allow global options to be required.)
    pub fn addresses(&self) -> Result<&[Address], OperatorError> {
        if self.addresses.is_empty() { Err(OperatorError::Nowhere) } else { Ok(&self.addresses) }
    }
}

/// A failed operator request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// No replica answered at any of the addresses. The request may have been executed if the
    /// connection was lost after it was sent.
    #[error("no replica answers: {0}; check that one is running there, or try others with --at")]
    NoAnswer(String),
    /// No address is given.
    #[error(
        "no replica to ask: give its address with --at or in the environment variable \
         PLAINSONG_AT, as HOST:PORT or the path of its Unix socket"
    )]
    Nowhere,
    /// The replica rejected the request.
    #[error("the replica rejected the request: {0}")]
    Refused(String),
    /// The replica requires a password at this address.
    #[error(
        "the replica requires a password at this address: use its Unix socket, the one that it \
         was started with (`serve --socket PATH`), as in --at PATH"
    )]
    Password,
    /// `--wait-safe` is combined with a change of the voters.
    #[error(
        "--wait-safe cannot be combined with a subcommand: changes of the voters wait until they \
         are in effect"
    )]
    WaitsForNothing,
    /// `force-new-cluster` without exactly one address.
    #[error("give exactly one address with --at: the replica that is to become the new cluster")]
    NotOne,
    /// `--wait-safe` timed out.
    #[error("it is not safe yet to restart another replica: {0}")]
    Unsafe(String),
    /// The operator did not confirm.
    #[error("not confirmed, nothing was changed")]
    NotConfirmed,
    /// The operating system's error.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl OperatorError {
    /// Returns the exit status, a code of sysexits.h where one fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoAnswer(_) | Self::Refused(_) | Self::Password => 69,
            Self::Nowhere | Self::NotOne | Self::WaitsForNothing => 64,
            Self::System(_) => 71,
            Self::Unsafe(_) => 75,
            Self::NotConfirmed => 1,
        }
    }
}

/// Sends the request to a replica and prints the reply. Must be called within a Tokio runtime.
///
/// # Errors
///
/// Returns an error if no replica answered or the replica rejected the request.
pub async fn run(operate: Operate) -> Result<(), OperatorError> {
    let (at, words) = match operate {
        Operate::ForceNewCluster { at } => return force_new_cluster(&at).await,
        Operate::Status { watch: true, at } => return bar::watch(&at).await,
        Operate::Status { watch: false, at } => (at, vec!["STATUS".into()]),
        Operate::Members { wait_safe: true, timeout, change: None, at } => {
            return safe::wait(&at, timeout).await;
        }
        Operate::Members { wait_safe: true, .. } => return Err(OperatorError::WaitsForNothing),
        Operate::Members { change, at, .. } => {
            let words = match change {
                None | Some(Change::List) => vec!["MEMBERS".into()],
                Some(Change::Add { id }) => words(["MEMBERS", "ADD"], &[id]),
                Some(Change::Remove { id }) => words(["MEMBERS", "REMOVE"], &[id]),
                Some(Change::Replace { old, new }) => words(["MEMBERS", "REPLACE"], &[old, new]),
            };
            (at, words)
        }
    };
    print(&ask(&at, &words).await?)
}

fn words(verbs: [&str; 2], ids: &[u32]) -> Vec<String> {
    verbs.into_iter().map(String::from).chain(ids.iter().map(ToString::to_string)).collect()
}

fn print(reply: &str) -> Result<(), OperatorError> {
    let mut out = io::stdout().lock();
    out.write_all(reply.as_bytes())?;
    Ok(out.flush()?)
}

/// Sends a request to the first replica that answers, and returns the text of its reply.
pub(super) async fn ask(at: &At, words: &[String]) -> Result<String, OperatorError> {
    match ask_first(at.addresses()?, words).await {
        Ok(Reply::BulkString(text)) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Ok(Reply::SimpleString(_)) => Ok(String::new()),
        Ok(_) => Err(OperatorError::Refused("unexpected reply; is it a Plainsong program?".into())),
        Err(Unanswered::NoAnswer(whys)) => Err(OperatorError::NoAnswer(whys)),
        Err(Unanswered::Refused(why)) if why.starts_with("NOAUTH ") => Err(OperatorError::Password),
        Err(Unanswered::Refused(why)) => {
            // The code of a general error says nothing to a person.
            let why = why.strip_prefix("ERR ").unwrap_or(&why);
            Err(OperatorError::Refused(why.to_owned()))
        }
    }
}

async fn force_new_cluster(at: &At) -> Result<(), OperatorError> {
    if at.addresses.len() != 1 {
        return Err(OperatorError::NotOne);
    }
    let losses = ask(at, &["NEWCLUSTER".into()]).await?;
    print(&losses)?;
    let mut input = io::stdin().lock();
    let mut answer = |question: &str| -> Result<String, OperatorError> {
        print(question)?;
        let mut line = String::new();
        input.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    };
    if answer("Is the majority of the voters lost for good? Type yes: ")? != "yes" {
        return Err(OperatorError::NotConfirmed);
    }
    let code = answer("Type the confirmation code: ")?;
    if code.is_empty() {
        return Err(OperatorError::NotConfirmed);
    }
    print(&ask(at, &["NEWCLUSTER".into(), code]).await?)?;
    print("This replica now runs as a new single-voter cluster.\n")
}
