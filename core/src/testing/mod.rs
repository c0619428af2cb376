//! Whole groups of replicas in a simulated world (feature `testing`): the engine that runs in
//! production, its frames and its writes, on a group that does all that Corosync may do
//! ([`cpg::sim`]), with disks that lose what was not synced, clocks that lie, and processes
//! that are killed, hang and come back.
//!
//! Users run *their* state machine in it:
//!
//! ```
//! use plainsong::testing::{Commands, Parameters, Simulation, check_determinism};
//! use plainsong::{Context, StateMachine};
//!
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
//! for seed in 0..3 {
//!     let workload = Commands::new(Counter::default, |random| random.below(10));
//!     let run = Simulation::new(Parameters::drawn(seed), workload).run();
//!     run.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
//! }
//! check_determinism(Counter::default, 0..100).unwrap();
//! ```

mod checker;
mod clock;
mod determinism;
mod disk;
mod host;
mod parameters;
mod process;
mod random;
mod simulation;
mod trace;
mod workload;
mod world;

pub use checker::Violation;
pub use determinism::check_determinism;
pub use parameters::Parameters;
pub use random::Random;
pub use simulation::{Report, Simulation};
pub use workload::{Answer, ClientNumber, Commands, Workload};
