use std::fmt::Write as _;

/// First three parts of every node's address. Each cluster has a separate network, so all clusters
/// use the same addresses.
const NET: &str = "10.77.0";

/// Returns the address of a node, without the prefix length.
pub(super) fn address(node: u32) -> String {
    format!("{NET}.{node}")
}

/// The content of `corosync.conf`: sections of settings, and the list of nodes.
#[derive(Clone, Debug)]
pub(super) struct Config {
    sections: Vec<(String, Vec<(String, String)>)>,
    nodes: u32,
}

impl Config {
    pub(super) fn new() -> Self {
        let mut config = Self { sections: Vec::new(), nodes: 3 };
        for (section, key, value) in [
            ("totem", "version", "2"),
            ("totem", "cluster_name", "plainsong"),
            ("totem", "transport", "knet"),
            // By default each node beyond the second adds 650 ms to the token timeout.
            ("totem", "token_coefficient", "0"),
            ("quorum", "provider", "corosync_votequorum"),
            ("logging", "to_stderr", "yes"),
            ("logging", "to_syslog", "no"),
            ("logging", "to_logfile", "no"),
            ("logging", "timestamp", "hires"),
        ] {
            config.set(section, key, value);
        }
        config
    }

    pub(super) fn nodes(&self) -> u32 {
        self.nodes
    }

    pub(super) fn set_nodes(&mut self, nodes: u32) {
        self.nodes = nodes;
    }

    /// Adds a setting, or replaces its value.
    pub(super) fn set(&mut self, section: &str, key: &str, value: &str) {
        let sections = &mut self.sections;
        let at = sections.iter().position(|(name, _)| name == section).unwrap_or_else(|| {
            sections.push((section.to_owned(), Vec::new()));
            sections.len() - 1
        });
        let settings = &mut sections[at].1;
        settings.retain(|(name, _)| name != key);
        settings.push((key.to_owned(), value.to_owned()));
    }

    /// Returns the text of the file. Corosync requires a line of its own for each setting.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (section, settings) in &self.sections {
            let _ = writeln!(text, "{section} {{");
            for (key, value) in settings {
                let _ = writeln!(text, "    {key}: {value}");
            }
            text.push_str("}\n");
        }
        text.push_str("nodelist {\n");
        for node in 1..=self.nodes {
            let address = address(node);
            let _ = write!(
                text,
                "    node {{\n        nodeid: {node}\n        name: node{node}\n        \
                 ring0_addr: {address}\n    }}\n"
            );
        }
        text.push_str("}\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_setting_replaces_an_earlier_one() {
        let mut config = Config::new();
        config.set("totem", "token", "500");
        config.set("totem", "token", "700");
        config.set("system", "sched_rr", "no");
        let text = config.text();
        assert!(text.contains("\n    token: 700\n") && !text.contains("500"), "{text}");
        assert!(text.contains("\nsystem {\n    sched_rr: no\n}\n"), "{text}");
        assert_eq!(text.matches("nodeid:").count(), 3);
    }
}
