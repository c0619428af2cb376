//! A replicated key-value store that speaks the Redis protocol.
pub mod backend;
pub mod command;
pub mod glob;
pub mod limits;
pub mod number;
pub mod request;
pub mod resp;
pub mod server;
mod store;
pub use store::Store;
