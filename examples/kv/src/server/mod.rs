//! The server: connections in, commands to the group, replies out.

mod answer;
mod connection;
mod info;
mod listener;
mod session;

pub(crate) use listener::Counters;
pub use listener::{Config, Server};
