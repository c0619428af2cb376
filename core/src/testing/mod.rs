//! Whole groups of replicas in a simulated world (feature `testing`): the engine that runs in
//! production, its frames and its writes, on a group that does all that Corosync may do
//! ([`cpg::sim`]), with disks that lose what was not synced, clocks that lie, and processes
//! that are killed, hang and come back.
//!
//! # Tests of an application
//!
//! Two tests say of a state machine what replicas need: [`check_determinism`] applies commands
//! twice and through a snapshot at every cut, and [`run_seeds`] runs it in as many worlds as
//! there are seeds. What clients do with it, and what must be true of their answers and of the
//! state, is a [`Workload`]; [`Commands`] is the shortest. A failing seed is told line by line
//! with `PLAINSONG_SEED` in the environment.
//!
//! ```
//! use std::collections::BTreeSet;
//!
//! use plainsong::testing::{Answer, ClientNumber, Random, Workload, check_determinism, run_seeds};
//! use plainsong::{Context, Incarnation, StateMachine};
//!
//! /// Each command adds, and answers the sum.
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
//! /// What clients were told.
//! #[derive(Default)]
//! struct Clients {
//!     told: u64,
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
//!             self.told = self.told.max(sum);
//!         }
//!     }
//!
//!     fn at_rest(&mut self, counter: &Counter, _: &BTreeSet<Incarnation>) -> Result<(), String> {
//!         let kept = counter.0 >= self.told;
//!         if kept { Ok(()) } else { Err(format!("{} was told, of {}", self.told, counter.0)) }
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
