//! Deterministic simulation of whole groups (feature `testing`). The replicas run the production
//! engine with its real frames and log records, in a group that does everything that Corosync may
//! do ([`cpg::sim`]). Disks lose unsynced writes, clocks are wrong, and processes are killed, hang
//! and come back.
//!
//! # Tests of an application
//!
//! Two tests show that a state machine is fit for replication. [`check_determinism`] applies
//! commands at two machines and restores a snapshot after each of them. [`run_seeds`] runs the
//! machine in one simulated world per seed. A [`Workload`] draws the commands of the clients and
//! checks their answers and the state; [`Commands`] is the simplest one. To see a trace of a
//! failing seed, run the test with `PLAINSONG_SEED` in the environment.
//!
//! ```
//! use std::collections::BTreeSet;
//!
//! use plainsong::testing::{Answer, ClientNumber, Random, Workload, check_determinism, run_seeds};
//! use plainsong::{Context, Incarnation, StateMachine};
//!
//! /// Adds each command to a sum and returns the sum.
//! #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Command = u64;
//!     type Output = u64;
//!     plainsong::snapshot_by_clone!();
//!
//!     fn apply(&mut self, _: &Context, add: u64) -> u64 {
//!         self.0 += add;
//!         self.0
//!     }
//! }
//!
//! /// Remembers the greatest sum that a client received.
//! #[derive(Default)]
//! struct Clients {
//!     greatest: u64,
//! }
//!
//! impl Workload for Clients {
//!     type Machine = Counter;
//!
//!     fn machine(&self) -> Counter {
//!         Counter::default()
//!     }
//!
//!     fn command(&mut self, _: ClientNumber, random: &mut Random) -> u64 {
//!         random.below(10)
//!     }
//!
//!     fn answered(&mut self, _: ClientNumber, answer: Answer<u64>) {
//!         if let Answer::Output(sum) = answer {
//!             self.greatest = self.greatest.max(sum);
//!         }
//!     }
//!
//!     fn at_rest(&mut self, counter: &Counter, _: &BTreeSet<Incarnation>) -> Result<(), String> {
//!         let sum = counter.0;
//!         if sum >= self.greatest { Ok(()) } else { Err(format!("the sum fell to {sum}")) }
//!     }
//! }
//!
//! run_seeds(3, |_| Clients::default());
//! check_determinism(Counter::default, 0..100).unwrap();
//! ```

mod checker;
mod clock;
mod determinism;
mod disk;
mod faults;
mod host;
mod log_time;
mod parameters;
mod process;
mod reading;
mod seeds;
mod simulation;
mod stages;
mod trace;
mod watched;
mod wire;
mod workload;
mod world;

pub use cpg::sim::Random;

pub use checker::Violation;
pub use determinism::check_determinism;
pub use parameters::{Parameters, Theme};
pub use seeds::run_seeds;
pub use simulation::{Report, Simulation};
pub use wire::BatchFrame;
pub use workload::{Answer, ClientNumber, Commands, Workload};
