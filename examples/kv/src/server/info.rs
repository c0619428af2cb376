//! `INFO`: how the server, its clients, the group and the store are.

use std::fmt::Write;

use bytes::Bytes;
use service::Situation;

use super::{Config, Counters};
use crate::View;
use crate::command::Output;
use crate::resp::Reply;

/// The version of Redis whose commands these are.
const REDIS_VERSION: &str = "7.0.0";

/// Which sections are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sections {
    server: bool,
    clients: bool,
    cluster: bool,
    memory: bool,
    persistence: bool,
    replication: bool,
    pub(super) keyspace: bool,
}

impl Sections {
    const ALL: Self = Self {
        server: true,
        clients: true,
        cluster: true,
        memory: true,
        persistence: true,
        replication: true,
        keyspace: true,
    };

    /// The sections of these names; all of them without a name. Unknown names ask for
    /// nothing, as in Redis.
    pub(super) fn named(names: &[Bytes]) -> Self {
        if names.is_empty() {
            return Self::ALL;
        }
        let mut sections = Self::default();
        for name in names {
            match name.to_ascii_lowercase().as_slice() {
                b"all" | b"default" | b"everything" => sections = Self::ALL,
                b"server" => sections.server = true,
                b"clients" => sections.clients = true,
                b"cluster" => sections.cluster = true,
                b"memory" => sections.memory = true,
                b"persistence" => sections.persistence = true,
                b"replication" => sections.replication = true,
                b"keyspace" => sections.keyspace = true,
                _ => {}
            }
        }
        sections
    }

    /// All that this server knows alone.
    pub(super) fn text(
        self,
        situation: &Situation,
        counters: &Counters,
        view: &View,
        config: &Config,
    ) -> String {
        let mut text = String::new();
        if self.server {
            section(
                &mut text,
                "Server",
                &[
                    // Clients look at it to know what they may ask for.
                    ("redis_version", REDIS_VERSION.into()),
                    ("redis_mode", "standalone".into()),
                    ("arch_bits", usize::BITS.to_string()),
                    ("plainsong_kv_version", env!("CARGO_PKG_VERSION").into()),
                    ("process_id", std::process::id().to_string()),
                    ("tcp_port", counters.port().to_string()),
                    ("uptime_in_seconds", counters.uptime().as_secs().to_string()),
                ],
            );
        }
        if self.clients {
            section(
                &mut text,
                "Clients",
                &[
                    ("connected_clients", counters.connected().to_string()),
                    ("maxclients", crate::limits::CONNECTIONS_MAX.to_string()),
                ],
            );
        }
        if self.memory {
            section(
                &mut text,
                "Memory",
                &[
                    ("used_memory", view.bytes().to_string()),
                    ("maxmemory", config.memory_bytes_max.unwrap_or(0).to_string()),
                    ("maxmemory_policy", "noeviction".into()),
                ],
            );
        }
        if self.persistence {
            // Clients wait until nothing is loaded.
            section(&mut text, "Persistence", &[("loading", "0".into())]);
        }
        if self.cluster {
            // Of Redis's kind: keys are not divided among servers.
            section(&mut text, "Cluster", &[("cluster_enabled", "0".into())]);
        }
        if self.replication {
            section(&mut text, "Replication", &situation.fields());
        }
        text
    }
}

fn section(text: &mut String, title: &str, fields: &[(&str, String)]) {
    if !text.is_empty() {
        text.push_str("\r\n");
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "# {title}\r\n");
    for (name, value) in fields {
        let value = value.replace(['\r', '\n'], " ");
        let _ = write!(text, "{name}:{value}\r\n");
    }
}

/// The whole, with how many keys there are.
pub(super) fn with_keyspace(mut text: String, output: &Output) -> Reply {
    let fields = match output {
        Output::Counted { keys: 0, .. } => Vec::new(),
        Output::Counted { keys, expiring } => {
            vec![("db0", format!("keys={keys},expires={expiring},avg_ttl=0"))]
        }
        _ => Vec::new(),
    };
    section(&mut text, "Keyspace", &fields);
    Reply::Verbatim(text.into())
}

/// The whole, when the group did not say how many keys there are.
pub(super) fn without_keyspace(mut text: String, situation: &Situation) -> Reply {
    let why = match situation.obstacle() {
        Some(obstacle) => obstacle.to_string(),
        None => "the group did not answer in time".into(),
    };
    section(&mut text, "Keyspace", &[("unknown", why)]);
    Reply::Verbatim(text.into())
}
