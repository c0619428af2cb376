//! What the example programs share besides Plainsong itself.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`resp`] | the Redis protocol, from bytes to requests and from replies to bytes |
//! | [`number`] | decimal numbers as Redis reads them |
//! | [`Situation`], [`watch`](watch()) | how a replica is, for people, and what changes about it |
//! | [`arguments`] | parts of command lines |
//! | [`Stop`] | the signals that end a service |

pub mod arguments;
pub mod number;
pub mod resp;
mod situation;
mod stop;
mod watch;

pub use situation::{Obstacle, Situation};
pub use stop::Stop;
pub use watch::{Line, watch};
