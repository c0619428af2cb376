//! Operator requests, the same in all programs: print the status of a replica and its group, change
//! the voters, and force a new cluster after a majority is lost for good.
//!
//! Servers answer `STATUS`, `MEMBERS` and `NEWCLUSTER` with [`answer`]; command lines send them
//! with [`Operate`] and [`run`].

mod answer;
mod ask;
mod bar;
mod safe;

pub use answer::{answer, render_status};
pub use ask::{At, Operate, OperatorError, run};
