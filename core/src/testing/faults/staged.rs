use std::time::Duration;

use cpg::NodeId;

use crate::testing::Workload;
use crate::testing::checker::Checked;
use crate::testing::host::Death;
use crate::testing::simulation::Simulation;

/// A sequence of faults that hardly ever coincide by chance. One machine is cut off, so that its
/// processes still believe in an epoch. The others open an epoch without it, commit in it, and lose
/// its sequencer. When they open the next epoch, the network heals while the disks of all replicas
/// stall. So the others' acks belong to epochs that are over, and the replica that was cut off
/// sends them reads of an even earlier one. The processes that could tell it of the new epoch hang
/// meanwhile.
pub(in crate::testing) struct StagedFault {
    alone: NodeId,
    /// Time at which the others lose their sequencer.
    strikes_at: Duration,
    stage: Stage,
    /// No other faults strike before this time.
    ends_at: Duration,
}

#[derive(PartialEq, Eq)]
enum Stage {
    /// One machine is cut off.
    CutOff,
    /// The others have lost their sequencer.
    SequencerLost,
    /// The others have opened the next epoch.
    Healed,
}

impl<W: Workload> Simulation<W> {
    /// Begins a staged fault: cuts one machine off.
    pub(in crate::testing) fn begin_staged_fault(&mut self) {
        let (now, p) = (self.world.now(), &self.world.parameters);
        let (machines, voters) = (p.machines.max(1), p.voters);
        let (timeout, patience) = (p.election_timeout, p.patience);
        if self.staged.is_some() || machines < 3 {
            return;
        }
        let alone = NodeId(1 + self.world.random.below(voters.into()) as u32);
        let others: Vec<_> = (1..=machines).map(NodeId).filter(|node| *node != alone).collect();
        self.world.network.part(&[&[alone], &others]);
        let strikes_at = now + timeout * 2 + patience;
        let ends_at = strikes_at + timeout * 5;
        self.staged = Some(StagedFault { alone, strikes_at, stage: Stage::CutOff, ends_at });
        self.heals_at = Some(ends_at);
    }

    /// Kills the others' sequencer when its time has come, and starts a read at the machine that is
    /// cut off.
    pub(in crate::testing) fn advance_staged_fault(&mut self) -> Checked {
        let now = self.world.now();
        let Some(staged) = &mut self.staged else { return Ok(()) };
        let alone = staged.alone;
        if now >= staged.ends_at || self.world.is_calm || self.world.is_disaster {
            self.staged = None;
        } else if now >= staged.strikes_at && staged.stage == Stage::CutOff {
            let sequencer = self.hosts.iter().position(|host| {
                let sequences = host.process.as_ref().is_some_and(|p| p.engine.is_sequencer());
                host.node() != alone && sequences
            });
            if let Some(at) = sequencer {
                staged.stage = Stage::SequencerLost;
                self.hosts[at].die(&mut self.world, Death::Kill)?;
                self.hosts[at].restart_at = Some(now);
                for host in self.hosts.iter_mut().filter(|host| host.node() == alone) {
                    host.read(&mut self.world)?;
                }
            }
        }
        Ok(())
    }

    /// Called when an epoch has opened at this host: heals the network if it is the awaited one.
    pub(in crate::testing) fn heal_staged_fault(&mut self, at: usize) {
        let host = &self.hosts[at];
        let Some(staged) = &mut self.staged else { return };
        if staged.stage != Stage::SequencerLost || host.node() == staged.alone {
            return;
        }
        staged.stage = Stage::Healed;
        staged.ends_at = self.world.now() + self.world.parameters.election_timeout;
        self.world.disks_stand_until = staged.ends_at;
        self.world.note(|| "the staged fault heals the network".into());
        let open = host.process.as_ref().and_then(|process| process.engine.open());
        let knows = open.map(|open| [open.ballot.replica, open.sequencer.replica.0]);
        let until = staged.ends_at;
        for host in &mut self.hosts {
            let is_asked = knows.is_some_and(|knows| knows.contains(&host.replica.0));
            if let Some(process) = host.process.as_mut().filter(|_| is_asked) {
                process.runs_at = until;
            }
        }
        self.heals_at = None;
        self.world.network.heal();
    }
}
