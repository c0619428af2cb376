//! Replicated state machines over closed process groups.
pub mod codec;
pub mod engine;
mod machine;
pub mod message;
mod replica;
mod runtime;
mod types;

pub use engine::{MemberStatus, Role, Status, StopReason};
pub use machine::{Context, StateMachine, Timestamp};
pub use replica::{
    Answer, Builder, Busy, COMMAND_BYTES_MAX, Pending, ProposeError, Replica, StartError,
};
pub use types::*;
