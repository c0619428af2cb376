//! Leader election: exactly one member of a group is the leader and does the work.
//!
//! | item | purpose |
//! | --- | --- |
//! | [`Election`] | the replicated state: candidates, leader, work that may not have stopped |
//! | [`ElectionMachine`] | the state machine, which also reports changes to watchers |
//! | [`Campaign`], [`Term`] | for applications: become a candidate, lead, and learn when to stop |
//! | [`program`] | the command line, which runs a command while its member leads |
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use election::{Campaign, ElectionMachine, Terms};
//! use plainsong::{Replica, ReplicaId};
//!
//! let replica = Replica::builder(ReplicaId(1), ElectionMachine::default())
//!     .transport("embedded".parse::<cpg::Transport>()?)
//!     .bootstrap([1, 2, 3].map(ReplicaId))
//!     .start()?;
//! let mut campaign = Campaign::new(Arc::new(replica), Terms::default());
//! loop {
//!     let mut term = campaign.elected().await?;
//!     // Start the work here. Pass `term.token()` along with everything it writes elsewhere.
//!     let why = term.lost().await;
//!     // Stop the work within `Terms::stop_within`, then report it with `over`.
//!     println!("stopped leading: {why}");
//!     term.over();
//! }
//! # }
//! ```

mod campaign;
mod election;
mod machine;
pub mod program;

pub use campaign::{Campaign, Lost, ReplicaStopped, Term, Terms};
pub use election::{Candidate, Command, Election, Leader, Output, Token, Unstopped};
pub use machine::ElectionMachine;
