//! A bank whose commands can fail: an error is an output like any other.
//!
//!     cargo run -p plainsong --example bank
//!
//! There are two kinds of errors, and they must not be mixed:
//!
//! - An error of the *state machine*, such as an overdraft, is part of `Output`. Every replica
//!   computes the same one, and a rejected command leaves every copy of the state unchanged.
//! - An error of *replication* is a `ProposeError`. Only the caller sees it, and
//!   `may_still_take_effect` says whether the command may be applied all the same.

use std::collections::BTreeMap;
use std::error::Error;

use plainsong::{Consistency, Context, ProposeError, Replica, ReplicaId, StateMachine};
use serde::{Deserialize, Serialize};

/// The balance of each account, in cents.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Bank {
    accounts: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Command {
    Deposit { to: String, cents: u64 },
    Transfer { from: String, to: String, cents: u64 },
}

/// A reason why the bank rejected a command, with the values that explain it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Rejected {
    #[error("there is no account {0}")]
    NoAccount(String),
    #[error("{account} has {balance} cents, and {needed} are needed")]
    Overdraft { account: String, balance: u64, needed: u64 },
    #[error("the balance of {0} would be too large")]
    Overflow(String),
}

impl StateMachine for Bank {
    type Command = Command;
    /// The balance of the account that was credited.
    type Output = Result<u64, Rejected>;

    /// Checks everything first and changes the state last, so that a rejected command leaves no
    /// trace. Never panics on what a command contains: a panic stops every replica.
    fn apply(&mut self, _: &Context, command: Command) -> Self::Output {
        match command {
            Command::Deposit { to, cents } => {
                let balance = self.credited(&to, cents)?;
                self.accounts.insert(to, balance);
                Ok(balance)
            }
            Command::Transfer { from, to, cents } => {
                let no_account = || Rejected::NoAccount(from.clone());
                let balance = *self.accounts.get(&from).ok_or_else(no_account)?;
                let rest = balance.checked_sub(cents).ok_or_else(|| Rejected::Overdraft {
                    account: from.clone(),
                    balance,
                    needed: cents,
                })?;
                if from == to {
                    return Ok(balance);
                }
                let credited = self.credited(&to, cents)?;
                self.accounts.insert(from, rest);
                self.accounts.insert(to, credited);
                Ok(credited)
            }
        }
    }

    plainsong::snapshot_by_clone!();
}

impl Bank {
    fn credited(&self, account: &str, cents: u64) -> Result<u64, Rejected> {
        let balance = self.accounts.get(account).copied().unwrap_or_default();
        balance.checked_add(cents).ok_or_else(|| Rejected::Overflow(account.to_owned()))
    }
}

/// Proposes a command and prints its outcome, as a user of the bank would see it.
fn propose(replica: &Replica<Bank>, command: Command) -> Result<(), ProposeError> {
    let text = format!("{command:?}");
    match replica.propose(command).wait() {
        Ok(Ok(balance)) => println!("{text}: the balance is {balance}"),
        Ok(Err(rejected)) => println!("{text}: rejected: {rejected}"),
        Err(error) if error.may_still_take_effect() => {
            println!("{text}: outcome unknown: {error}");
            return Err(error);
        }
        Err(error) => {
            println!("{text}: not applied, safe to propose again: {error}");
            return Err(error);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let ring = cpg::embedded::LocalRing::new();
    let voters = [1, 2, 3].map(ReplicaId);
    let mut replicas = Vec::new();
    for id in voters {
        let builder = Replica::builder(id, Bank::default()).transport(ring.node());
        replicas.push(builder.group("bank").bootstrap(voters).start()?);
    }

    let transfer = |from: &str, to: &str, cents| Command::Transfer {
        from: from.to_owned(),
        to: to.to_owned(),
        cents,
    };
    propose(&replicas[0], Command::Deposit { to: "ann".into(), cents: 100 })?;
    propose(&replicas[1], transfer("ann", "bob", 30))?;
    propose(&replicas[2], transfer("ann", "bob", 90))?;
    propose(&replicas[0], transfer("zoe", "bob", 1))?;
    propose(&replicas[1], Command::Deposit { to: "bob".into(), cents: u64::MAX })?;

    let total = |bank: &Bank| bank.accounts.values().sum::<u64>();
    let total = replicas[2].read(Consistency::Linearizable, total).wait()?;
    println!("all accounts together: {total}");
    Ok(())
}
