//! What the measurements of Plainsong share: a state machine, callers that keep it busy, and
//! how results of programs that take turns are put together.

pub mod load;
mod machine;
mod series;

pub use load::{Load, Measured};
pub use machine::{Map, Put};
pub use series::Series;
