//! The server: accepts connections, proposes commands, and sends replies and events.

mod connection;
mod info;
mod input;
mod listener;
mod sessions;

pub use listener::{Server, ServerConfig};
