//! The server: accepts connections, sends commands to the replica, and writes replies.

mod answer;
mod client_list;
mod config;
mod connection;
mod connection_state;
mod describe;
mod info;
mod listener;
mod order;
mod password;
mod queue;
mod settings;
mod statistics;
mod subscriptions;
mod tls;
mod waiting;
mod writer;

pub use config::ServerConfig;
pub(crate) use listener::Counters;
pub use listener::Server;
pub use password::Password;
pub use tls::{Tls, TlsError};
