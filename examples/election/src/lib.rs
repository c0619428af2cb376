//! Elections: of the members of a group, exactly one is the leader, and works.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`Election`] | the state: who stands, who leads, and whose work may not have stopped yet |
//! | [`ElectionMachine`] | the state machine, which tells when something has changed |
//! | [`Campaign`], [`Term`] | for applications: stand, lead, and hear when to stop |
//! | [`program`] | the command line, which does so with a command |
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
//!     // Begin to work, with `term.token()` on everything that is written elsewhere.
//!     let why = term.lost().await;
//!     // Stop to work, within `Terms::stop_within`, and then say so.
//!     println!("not the leader any more: {why}");
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
