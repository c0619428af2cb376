//! Simulated groups by the thousand: registers with clients whose histories must be
//! linearizable, each seed a world of its own.

mod registers;
mod runner;

pub use registers::{Command, Output, Registers};
pub use runner::{Clients, Failure, run_seed, trace_seed};
