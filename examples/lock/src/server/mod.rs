//! The server: connections in, commands to the group, replies and events out.

mod connection;
mod info;
mod input;
mod listener;
mod sessions;

pub use listener::{Server, ServerConfig};
