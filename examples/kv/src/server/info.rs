//! Handles `INFO`: the status of the server, its clients, the group and the store.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use service_lib::{ReplicaStatus, connections_max};

use super::statistics::{Statistics, resident_bytes};
use super::{Counters, ServerConfig};
use crate::View;
use crate::command::Output;
use crate::limits::CONNECTIONS_MAX;
use crate::resp::Reply;

/// Version of Redis that the commands are compatible with.
const REDIS_VERSION: &str = "7.0.0";

/// The sections of `INFO` to return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sections {
    server: bool,
    clients: bool,
    cluster: bool,
    memory: bool,
    persistence: bool,
    replication: bool,
    stats: bool,
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
        stats: true,
        keyspace: true,
    };

    /// Returns the sections of these names, or all sections if there are no names. Unknown names
    /// are ignored, as in Redis.
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
                b"stats" => sections.stats = true,
                b"keyspace" => sections.keyspace = true,
                _ => {}
            }
        }
        sections
    }

    /// Formats all sections that need no query: all but the keyspace.
    pub(super) fn text(
        self,
        status: &ReplicaStatus,
        counters: &Counters,
        statistics: &Statistics,
        view: &View,
        config: &ServerConfig,
    ) -> String {
        let mut text = String::new();
        if self.server {
            section(&mut text, "Server", &server(counters, statistics));
        }
        if self.clients {
            section(
                &mut text,
                "Clients",
                &[
                    ("connected_clients", counters.connected().to_string()),
                    ("maxclients", connections_max(CONNECTIONS_MAX).to_string()),
                    ("blocked_clients", "0".into()),
                ],
            );
        }
        if self.memory {
            section(&mut text, "Memory", &memory(view, config));
        }
        if self.persistence {
            // Clients wait while `loading` is 1, and `redis-cli --stat` shows the others. kv writes
            // no RDB or AOF files, so all of them are 0.
            let fields =
                ["loading", "rdb_bgsave_in_progress", "aof_enabled", "aof_rewrite_in_progress"];
            section(&mut text, "Persistence", &fields.map(|name| (name, "0".into())));
        }
        if self.stats {
            section(&mut text, "Stats", &stats(counters, statistics, view));
        }
        if self.cluster {
            // Keys are not partitioned among servers as in a Redis cluster.
            section(&mut text, "Cluster", &[("cluster_enabled", "0".into())]);
        }
        if self.replication {
            section(&mut text, "Replication", &replication(status));
        }
        text
    }
}

type Field = (&'static str, String);

fn server(counters: &Counters, statistics: &Statistics) -> [Field; 10] {
    let uptime = counters.uptime().as_secs();
    [
        // Clients derive the supported commands from this.
        ("redis_version", REDIS_VERSION.into()),
        ("redis_mode", "standalone".into()),
        ("os", std::env::consts::OS.into()),
        ("arch_bits", usize::BITS.to_string()),
        ("plainsong_kv_version", env!("CARGO_PKG_VERSION").into()),
        ("process_id", std::process::id().to_string()),
        ("run_id", statistics.run_id.clone()),
        ("tcp_port", counters.port().to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86_400).to_string()),
    ]
}

fn memory(view: &View, config: &ServerConfig) -> [Field; 9] {
    let (used, peak) = (view.bytes(), view.bytes_peak());
    let max = config.memory_bytes_max.unwrap_or(0);
    let resident = resident_bytes().unwrap_or(0);
    let ratio = resident as f64 / used.max(1) as f64;
    [
        // Size of the keys and values. The process takes more.
        ("used_memory", used.to_string()),
        ("used_memory_human", human(used)),
        ("used_memory_rss", resident.to_string()),
        ("used_memory_rss_human", human(resident)),
        ("used_memory_peak", peak.to_string()),
        ("maxmemory", max.to_string()),
        ("maxmemory_human", human(max)),
        ("maxmemory_policy", "noeviction".into()),
        ("mem_fragmentation_ratio", format!("{ratio:.2}")),
    ]
}

fn stats(counters: &Counters, statistics: &Statistics, view: &View) -> [Field; 12] {
    let (hits, misses) = statistics.keys();
    let (channels, patterns) = view.listening().counts();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
    [
        ("total_connections_received", counters.clients().to_string()),
        ("total_commands_processed", statistics.commands().to_string()),
        ("instantaneous_ops_per_sec", statistics.commands_per_second().to_string()),
        ("total_net_input_bytes", count(&statistics.input_bytes)),
        ("total_net_output_bytes", count(&statistics.output_bytes)),
        ("rejected_connections", count(&statistics.rejected)),
        ("expired_keys", view.expired().to_string()),
        ("evicted_keys", "0".into()),
        ("keyspace_hits", hits.to_string()),
        ("keyspace_misses", misses.to_string()),
        ("pubsub_channels", channels.to_string()),
        ("pubsub_patterns", patterns.to_string()),
    ]
}

/// Returns the fields of the replication section. `role` is the role that Redis would have, for
/// proxies and clients that look for a server that accepts writes: `master` while this replica can
/// commit commands, otherwise `slave` without a connection to its master. The role in the group is
/// `plainsong_role`.
fn replication(status: &ReplicaStatus) -> Vec<Field> {
    let mut fields = vec![("role", "master".to_owned())];
    if status.blocker().is_some() {
        fields = vec![("role", "slave".to_owned()), ("master_link_status", "down".to_owned())];
    }
    fields.push(("connected_slaves", "0".into()));
    fields.push(("master_repl_offset", status.committed.to_string()));
    fields.extend(status.fields().into_iter().map(|(name, value)| match name {
        "role" => ("plainsong_role", value),
        name => (name, value),
    }));
    fields
}

/// Formats a number of bytes as Redis does in its `_human` fields.
fn human(bytes: u64) -> String {
    let number = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..0x10_0000 => format!("{:.2}K", number / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.2}M", number / 1_048_576.0),
        _ => format!("{:.2}G", number / 1_073_741_824.0),
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

/// Returns the reply with the keyspace section.
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

/// Returns the reply if the number of keys could not be read.
pub(super) fn without_keyspace(mut text: String, status: &ReplicaStatus) -> Reply {
    let why = match status.blocker() {
        Some(blocker) => blocker.to_string(),
        None => "the group did not respond in time".into(),
    };
    section(&mut text, "Keyspace", &[("unknown", why)]);
    Reply::Verbatim(text.into())
}
