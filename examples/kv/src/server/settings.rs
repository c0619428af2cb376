//! Handles `CONFIG`. Some clients read settings when they connect. Settings can be changed on the
//! command line only.

use bytes::Bytes;

use super::ServerConfig;
use super::connection_state::text;
use crate::glob;
use crate::limits::{CONNECTIONS_MAX, PATTERN_BYTES_MAX, REQUEST_BYTES_MAX, VALUE_BYTES_MAX};
use crate::request::Fault;
use crate::resp::Reply;

/// Returns the equivalents of Redis's settings. No RDB or AOF files are written, and all changes of
/// keys are reported to subscribers.
fn settings(config: &ServerConfig) -> [(&'static str, String); 11] {
    [
        ("appendonly", "no".into()),
        ("client-query-buffer-limit", REQUEST_BYTES_MAX.to_string()),
        ("databases", "1".into()),
        ("maxclients", service_lib::connections_max(CONNECTIONS_MAX).to_string()),
        ("maxmemory", config.memory_bytes_max.unwrap_or(0).to_string()),
        ("maxmemory-policy", "noeviction".into()),
        ("notify-keyspace-events", "KEg$x".into()),
        ("proto-max-bulk-len", VALUE_BYTES_MAX.to_string()),
        ("save", String::new()),
        ("tcp-keepalive", "5".into()),
        ("timeout", "0".into()),
    ]
}

/// Answers `CONFIG GET` with the settings that match these patterns.
pub(super) fn get(config: &ServerConfig, patterns: &[Bytes]) -> Reply {
    let is_asked = |name: &str| {
        let matches =
            |pattern: &Bytes| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes());
        patterns.iter().any(|pattern| pattern.len() <= PATTERN_BYTES_MAX && matches(pattern))
    };
    let asked = settings(config).into_iter().filter(|(name, _)| is_asked(name));
    let pair =
        |(name, value): (&'static str, String)| (text(name), Reply::BulkString(value.into()));
    Reply::Map(asked.map(pair).collect())
}

/// Returns the error for `CONFIG SET` of this name.
pub(super) fn set(config: &ServerConfig, name: &[u8]) -> Fault {
    let mut settings = settings(config).into_iter();
    match settings.find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())) {
        Some((known, _)) => Fault::Immutable(known),
        None => {
            let name = &name[..name.len().min(128)];
            Fault::UnknownSetting(String::from_utf8_lossy(name).into_owned())
        }
    }
}
