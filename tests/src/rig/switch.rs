use std::fmt::Write as _;
use std::path::Path;

use super::Result;
use super::namespace::Namespace;

/// Connects the nodes' networks, with bridges in a namespace of their own. Bridge 0 has all ports
/// unless the network is split.
#[derive(Debug)]
pub(super) struct Switch {
    namespace: Namespace,
}

impl Switch {
    pub(super) fn new(home: &Path, bridges: u32) -> Result<Self> {
        let namespace = Namespace::new(home, "plainsong-rig-switch", "", &[])?;
        let mut commands = String::new();
        for bridge in 0..bridges {
            let _ = writeln!(commands, "link add bridge{bridge} type bridge");
            let _ = writeln!(commands, "link set bridge{bridge} up");
        }
        let switch = Self { namespace };
        switch.ip(&commands)?;
        Ok(switch)
    }

    fn ip(&self, commands: &str) -> Result<()> {
        self.namespace.configure(&["ip", "-batch", "-"], commands)
    }

    /// Connects a node's network, in which the cable ends as `eth0`.
    pub(super) fn connect(&self, node: u32, namespace: &Namespace) -> Result<()> {
        let holder = namespace.holder();
        self.ip(&format!(
            "link add port{node} type veth peer name eth0 netns {holder}\n\
             link set port{node} master bridge0 up\n"
        ))
    }

    /// Moves ports to bridges; `None` disconnects a port. A port that is already there is not
    /// disturbed.
    pub(super) fn place(&self, places: &[(u32, Option<usize>)]) -> Result<()> {
        let mut commands = String::new();
        for (node, bridge) in places {
            let _ = match bridge {
                Some(bridge) => writeln!(commands, "link set port{node} master bridge{bridge}"),
                None => writeln!(commands, "link set port{node} nomaster"),
            };
        }
        self.ip(&commands)
    }
}
