//! Replicated state machines over closed process groups.
mod machine;
mod types;

pub use machine::{Context, StateMachine, Timestamp};
