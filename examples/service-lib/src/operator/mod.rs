//! What operators ask of a replica, the same in all programs: how it and its group are, who
//! votes, and to go on alone when a majority is lost for good.
//!
//! A server answers `STATUS`, `MEMBERS` and `NEWCLUSTER` by [`answer`]; the command line has
//! [`Operate`].

mod answer;
mod ask;
mod bar;
mod safe;

pub use answer::{answer, render_status};
pub use ask::{At, Operate, OperatorError, run};
