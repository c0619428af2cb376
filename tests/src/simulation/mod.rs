//! Simulated groups of registers, one world per seed. The histories of their clients must be
//! linearizable.

mod registers;
mod runner;

pub use registers::{Command, Output, Registers};
pub use runner::{Clients, Failure, run_seed, trace_seed};
