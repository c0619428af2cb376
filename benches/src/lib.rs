//! What the measurements of Plainsong share: a state machine, callers that keep it busy, real
//! processes of kv, and how results of programs that take turns are put together.

pub mod load;
mod machine;
pub mod processes;
mod series;

pub use load::{Load, Measured};
pub use machine::{Map, Put};
pub use series::{Series, percentile};
