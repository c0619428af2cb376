//! Shared code of the benchmarks: a state machine, callers that put load on it, real processes of
//! kv, and the evaluation of several rounds.

pub mod load;
mod machine;
pub mod processes;
mod series;

pub use load::{Load, Measured};
pub use machine::{Map, Put};
pub use series::{Series, percentile};
