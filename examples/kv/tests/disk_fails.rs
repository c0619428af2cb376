//! Three processes under load, and the disk of one is full or fails. That replica stops
//! acknowledging, leaves the group and reports why. The others keep working, no acknowledged write
//! is lost, and the replica works again once its disk does.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod common;
use common::{Load, Record, Serve, check, have, ready, skipped, together, until};
use rustix::process::Signal;
use service_lib::testing::Process;

/// The replica whose disk fails.
const VICTIM: u32 = 1;

struct Group {
    directory: tempfile::TempDir,
    replicas: Vec<Serve>,
    snapshot_every: &'static str,
    /// Records of the writers, one list per run.
    records: Vec<Vec<Record>>,
}

const OFTEN: &str = "100";
const NEVER: &str = "1000000";

impl Group {
    /// Starts all replicas but the victim.
    fn start(directory: tempfile::TempDir, snapshot_every: &'static str) -> Self {
        let (replicas, records) = (Vec::new(), Vec::new());
        let mut group = Self { directory, replicas, snapshot_every, records };
        for id in [2, 3] {
            let replica = Serve::start(id, &group.socket(), &group.arguments(id));
            group.replicas.push(replica);
        }
        group
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("ring")
    }

    fn data(&self, id: u32) -> PathBuf {
        data(self.directory.path(), id)
    }

    fn arguments(&self, id: u32) -> [String; 8] {
        let (data, every) = (self.data(id).display().to_string(), self.snapshot_every);
        let data = ["--data-dir", &data, "--snapshot-every", every, "--keep-entries", "20"];
        [data[0], data[1], data[2], data[3], data[4], data[5], "--timeout", "5"].map(Into::into)
    }

    fn start_victim(&mut self) {
        let replica = Serve::start(VICTIM, &self.socket(), &self.arguments(VICTIM));
        self.take_in(replica);
    }

    fn start_victim_failing(&mut self, failure: (&str, &Path, &str)) {
        let (arguments, trace) = (self.arguments(VICTIM), self.trace());
        let replica = Serve::start_failing(VICTIM, &self.socket(), &arguments, failure, &trace);
        self.take_in(replica);
    }

    fn trace(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    fn take_in(&mut self, victim: Serve) {
        self.replicas.push(victim);
        self.replicas.iter().for_each(|replica| ready(replica.address));
    }

    /// Returns the key of the victim's next snapshot (docs/formats.md).
    fn next_snapshot(&self) -> String {
        let index = fs::read(self.data(VICTIM).join("store/snapshots.index")).unwrap();
        u64::from_le_bytes(index[8..16].try_into().unwrap()).to_string()
    }

    fn victim(&self) -> &Serve {
        self.replicas.last().unwrap()
    }

    fn load(&self, bytes: usize) -> Load {
        Load::start(self.replicas.iter().map(|replica| replica.address).collect(), bytes)
    }

    /// Writes until the victim has stopped, and some more. Returns the reason that the victim
    /// reports.
    fn write_until_the_victim_stops(&mut self, bytes: usize) -> String {
        let load = self.load(bytes);
        let victim = self.victim();
        let why = until("the replica whose disk fails to stop", || {
            (victim.info("plainsong_role") == "stopped").then(|| victim.info("obstacle"))
        });
        // It still answers questions, and nothing else.
        let mut client = victim.client();
        assert_eq!(client.ask("PING"), "PONG");
        let reason = why.strip_prefix("this replica has stopped: ").expect("a reason");
        for request in ["SET a b", "GET a"] {
            let refusal = client.ask(request);
            assert!(refusal.starts_with("-CLUSTERDOWN ") && refusal.ends_with(reason), "{refusal}");
        }
        let said = |line: &String| line.contains("replica stops") && line.contains("ERROR");
        assert!(victim.process.err().iter().any(said), "the log does not report the failure");
        for replica in &self.replicas[..2] {
            until("the victim to leave the group", || {
                let members = replica.info("members");
                (!members.split(',').any(|id| id == "1")).then_some(())
            });
        }
        load.wait_for_writes(200);
        self.records.push(load.end());
        self.check(2);
        why
    }

    /// Checks that the first `count` replicas have every acknowledged write.
    fn check(&self, count: usize) {
        let records = together(&self.records);
        self.replicas[..count].iter().for_each(|replica| check(replica, &records));
    }

    /// Stops and restarts the victim, and checks that it has every acknowledged write.
    fn recovers_with_a_working_disk(&mut self) {
        self.end_victim();
        self.start_victim();
        let load = self.load(0);
        load.wait_for_writes(200);
        self.records.push(load.end());
        self.check(3);
        until("the victim to vote", || {
            let role = self.victim().info("plainsong_role");
            (role == "voter" || role == "sequencer").then_some(())
        });
    }

    fn end_victim(&mut self) {
        let mut victim = self.replicas.pop().unwrap();
        victim.process.signal(Signal::TERM);
        assert_eq!(victim.process.ended().code(), Some(0));
    }
}

fn data(directory: &Path, id: u32) -> PathBuf {
    directory.join(format!("data-{id}"))
}

/// A small file system on a loop device. Unmounted on drop.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Creates and mounts it. Returns `None`, and reports the test as skipped, if that is
    /// impossible.
    fn mount(image: &Path, at: PathBuf, megabytes: u64) -> Option<Self> {
        fs::File::create(image).and_then(|file| file.set_len(megabytes << 20)).unwrap();
        fs::create_dir_all(&at).unwrap();
        let done = |command: &mut Command| command.output().is_ok_and(|o| o.status.success());
        let made = done(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image))
            && done(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&at));
        if !made {
            skipped("a small disk cannot be mounted: that needs root and loop devices");
            return None;
        }
        fs::remove_dir(at.join("lost+found")).unwrap();
        Some(Self(at))
    }

    /// Fills the disk, but for this much free space.
    fn fill_up_to(&self, kilobytes: u64) {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let ballast = free.saturating_sub(kilobytes << 10);
        fs::write(self.0.join("ballast"), vec![1; ballast as usize]).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn the_disk_of_the_log_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let folder = data(directory.path(), VICTIM);
    let image = directory.path().join("image");
    let Some(disk) = SmallDisk::mount(&image, folder, 40) else { return };
    let mut group = Group::start(directory, NEVER);
    group.start_victim();
    disk.fill_up_to(6 << 10);
    let why = group.write_until_the_victim_stops(20_000);
    assert!(why.contains("No space left on device"), "{why}");
    assert!(why.contains("check the disk"), "{why}");
    disk.make_room();
    group.recovers_with_a_working_disk();
    group.replicas.clear();
}

#[test]
fn the_disk_of_the_snapshots_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let mut group = Group::start(directory, OFTEN);
    group.start_victim();
    group.end_victim();
    // Moves its snapshots to a disk of their own.
    let place = group.data(VICTIM).join("store/snapshots");
    let aside = group.directory.path().join("aside");
    fs::rename(&place, &aside).unwrap();
    let image = group.directory.path().join("image");
    let Some(disk) = SmallDisk::mount(&image, place.clone(), 40) else { return };
    let copied = Command::new("cp").args(["-a"]).arg(aside.join(".")).arg(&place).status();
    assert!(copied.unwrap().success());
    group.start_victim();
    disk.fill_up_to(2 << 10);
    let why = group.write_until_the_victim_stops(5_000);
    assert!(why.contains("a snapshot failed"), "{why}");
    assert!(why.contains("No space left on device"), "{why}");
    assert!(why.contains("check the disk"), "{why}");
    disk.make_room();
    group.recovers_with_a_working_disk();
    group.replicas.clear();
}

#[test]
fn the_disk_of_stderr_is_full() {
    let mut group = Group::start(tempfile::tempdir().unwrap(), OFTEN);
    let mute = Process::without_room_for_its_log(common::PROGRAM);
    let victim = Serve::start_by(mute, VICTIM, &group.socket(), &group.arguments(VICTIM));
    group.take_in(victim);
    let load = group.load(500);
    load.wait_for_writes(300);
    group.records.push(load.end());
    group.check(3);
    group.end_victim();
}

/// Makes the `time`-th system call of one kind on one file of the victim fail, once.
fn fails_once(call: &str, file: &str, time: u64, what: &str) {
    if !have("strace", "strace") {
        return;
    }
    let mut group = Group::start(tempfile::tempdir().unwrap(), OFTEN);
    // Formats the folder first, so that only later calls are counted.
    group.start_victim();
    group.end_victim();
    let path = group.data(VICTIM).join("store").join(file.replace('N', &group.next_snapshot()));
    group.start_victim_failing((call, &path, &format!("error=EIO:when={time}")));
    let why = group.write_until_the_victim_stops(500);
    assert!(why.contains(what), "{why}");
    assert!(why.contains("Input/output error"), "{why}");
    assert!(why.contains("check the disk"), "{why}");
    let index = group.data(VICTIM).join("store/snapshots.index");
    let named = fs::read(&index).unwrap();
    group.end_victim();
    assert!(fs::read(&index).unwrap() == named, "a snapshot counts despite the failure");
    let trace = fs::read_to_string(group.trace()).unwrap();
    let (before, after) = trace.split_once("(INJECTED)").expect("an injected failure");
    assert!(before.lines().count() > 1, "it failed at once:\n{trace}");
    // Writes by sled when it is closed do not make a snapshot count.
    if file == LOG {
        let again = after.lines().find(|line| line.contains("sync(") || line.contains("pwrite64("));
        assert_eq!(again, None, "the failed call was tried again");
    }
    if call.ends_with("sync") {
        // Stands for a restart of the machine: the disk of this test has lost nothing.
        fs::remove_file(group.data(VICTIM).join("lock")).unwrap();
    }
    group.start_victim();
    group.replicas.iter().for_each(|replica| ready(replica.address));
    let load = group.load(0);
    load.wait_for_writes(200);
    group.records.push(load.end());
    group.check(3);
}

const LOG: &str = "log.redb";
const NEXT_SNAPSHOT: &str = "snapshots/N/db";

#[test]
fn a_write_of_the_log_fails() {
    fails_once("pwrite64", LOG, 300, "the log could not be written");
}

#[test]
fn a_sync_of_the_log_fails() {
    fails_once("fdatasync", LOG, 60, "the log could not be written");
}

#[test]
fn a_write_of_the_snapshots_fails() {
    fails_once("pwrite64", NEXT_SNAPSHOT, 1, "a snapshot failed");
}

#[test]
fn a_sync_of_the_snapshots_fails() {
    fails_once("fsync", NEXT_SNAPSHOT, 2, "a snapshot failed");
}
