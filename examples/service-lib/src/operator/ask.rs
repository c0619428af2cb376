use std::io::{self, BufRead, Write};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{bar, safe};
use crate::arguments::seconds;
use crate::resp::Reply;
use crate::{Address, Unanswered, ask_first};

/// What operators ask, on the command line of each program.
#[derive(Debug, Subcommand)]
pub enum Operate {
    /// Tells how a replica is, what it waits for, and the members of its group.
    Status {
        /// Goes on looking until Ctrl-C, with a bar while the replica receives the state.
        #[arg(long)]
        watch: bool,
        /// Where to ask.
        #[command(flatten)]
        at: At,
    },
    /// Tells who is in the group, who votes, and how far each is.
    Members {
        /// Waits until another replica may be restarted, or lose its store: all voters are in the
        /// group, have caught up, and know who votes. Ask the replica that was restarted last.
        #[arg(long)]
        wait_safe: bool,
        /// How long --wait-safe waits, in seconds, from 0.001 to 86400. Exit status 75 if it was not
        /// enough.
        #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
        timeout: Duration,
        /// The list without it.
        #[command(subcommand)]
        change: Option<Change>,
        /// Where to ask.
        #[command(flatten)]
        at: At,
    },
    /// Lets one replica go on alone, as a new cluster, when a majority of the voters is lost for
    /// good. Tells what may be lost, and asks twice.
    ForceNewCluster {
        /// Where to ask.
        #[command(flatten)]
        at: At,
    },
}

/// What operators change about who votes.
#[derive(Debug, Subcommand)]
pub enum Change {
    /// Tells who is in the group.
    List,
    /// Has a replica vote, which has been started before.
    Add {
        /// Its number.
        #[arg(value_name = "NUMBER")]
        id: u32,
    },
    /// Has a replica vote no more.
    Remove {
        /// Its number.
        #[arg(value_name = "NUMBER")]
        id: u32,
    },
    /// Has one replica vote in the place of another.
    Replace {
        /// The number of the one that votes.
        #[arg(value_name = "OLD")]
        old: u32,
        /// The number of the one that is to vote.
        #[arg(value_name = "NEW")]
        new: u32,
    },
}

/// Which replica is asked, by all verbs of all programs.
#[derive(Clone, Debug, Args)]
pub struct At {
    /// Where replicas serve: HOST:PORT, or the path of a Unix socket with a slash in it. The
    /// first that answers is asked.
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
    /// The addresses.
    ///
    /// # Errors
    ///
    /// There is none. (The option is global, which keeps it from being a required one.)
    pub fn addresses(&self) -> Result<&[Address], OperatorError> {
        if self.addresses.is_empty() { Err(OperatorError::Nowhere) } else { Ok(&self.addresses) }
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// Nobody is there.
    #[error("no replica answers: {0}; is one running there? Name others with --at")]
    NoAnswer(String),
    /// Nobody is named.
    #[error(
        "say where a replica serves with --at or in PLAINSONG_AT: HOST:PORT, or the path of a Unix socket"
    )]
    Nowhere,
    /// A replica says no.
    #[error("the replica refuses: {0}")]
    Refused(String),
    /// The replica serves only who says a password.
    #[error(
        "the replica asks for a password there: name its Unix socket, which its `serve --socket` \
         makes, with --at"
    )]
    Password,
    /// A change waits by itself.
    #[error("--wait-safe stands alone: a change of the voters waits until it is in force")]
    WaitsForNothing,
    /// It is for one replica only.
    #[error("name the one replica that is to go on alone with --at")]
    NotOne,
    /// `--wait-safe` came to nothing.
    #[error("no other replica should be restarted yet: {0}")]
    Unsafe(String),
    /// The operator has not confirmed.
    #[error("nothing was done")]
    NotConfirmed,
    /// The system's.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl OperatorError {
    /// In the numbers of sysexits.h.
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

/// Asks, and prints the answer. To be called in a runtime.
///
/// # Errors
///
/// Says what was not done.
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

/// Asks the first that answers.
pub(super) async fn ask(at: &At, words: &[String]) -> Result<String, OperatorError> {
    match ask_first(at.addresses()?, words).await {
        Ok(Reply::BulkString(text)) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Ok(Reply::SimpleString(_)) => Ok(String::new()),
        Ok(_) => Err(OperatorError::Refused("this is no answer of a replica".into())),
        Err(Unanswered::NoAnswer(whys)) => Err(OperatorError::NoAnswer(whys)),
        Err(Unanswered::Refused(why)) if why.starts_with("NOAUTH ") => Err(OperatorError::Password),
        Err(Unanswered::Refused(why)) => Err(OperatorError::Refused(why)),
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
    if answer("Is the majority lost for good? Say yes: ")? != "yes" {
        return Err(OperatorError::NotConfirmed);
    }
    let word = answer("Say the word: ")?;
    if word.is_empty() {
        return Err(OperatorError::NotConfirmed);
    }
    print(&ask(at, &["NEWCLUSTER".into(), word]).await?)?;
    print("It goes on alone.\n")
}
