//! Errors of a member at its start; each message says what to do.

use service_lib::testing::{Process, until};

use super::{Group, WORK, election};

#[test]
fn usage_errors_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let ring = format!("embedded:{}", directory.path().join("ring").display());
    let no_ring = format!("embedded:{}", directory.path().join("none/ring").display());
    let base = ["run", "work", "--voters", "1,2,3", "--id"];
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let no_socket = file.to_str().unwrap();
    for (arguments, code, told) in [
        (&["run"][..], 64, "COMMAND"),
        (
            &[&base[..], &["4", "--engine", &ring, "--", "true"]].concat(),
            1,
            "list every initial voter",
        ),
        (
            &[&base[..], &["1", "--engine", &no_ring, "--", "true"]].concat(),
            1,
            "there is no directory",
        ),
        (
            &[&base[..], &["1", "--engine", &ring, "--listen", "0.0.0.0:0", "--", "true"]].concat(),
            1,
            "add --allow-remote",
        ),
        (
            &[&base[..], &["1", "--engine", &ring, "--socket", no_socket, "--", "true"]].concat(),
            1,
            "it exists and is not a socket, so it was not replaced",
        ),
        (&["status", "--at", "./nowhere"], 69, "no replica answers"),
    ] {
        let output = election().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
}

#[test]
fn errors_about_a_busy_port_and_a_foreign_directory_say_what_to_do() {
    let group = Group::start(WORK, &[&[]; 3]);
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    let ring = format!("embedded:{}", group.path("ring").display());
    let data = group.path("data1").display().to_string();
    let taken = group.socket(1).display().to_string();
    group.is_ready(1);
    for (options, told) in [
        (["--listen", &busy], "choose another address with --listen"),
        (["--metrics", &busy], "choose another address with --metrics"),
        (["--socket", &taken], "another process is already listening there; stop it"),
        (["--data-dir", &data], &format!("process {}", group.members[0].pid())),
    ] {
        let base = ["run", "work", "--id", "4", "--engine", &ring];
        let output = election().args(base).args(options).args(["--", "true"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{options:?}: {said}");
        assert!(said.contains(told), "{options:?}: {said}");
    }
    drop(group.members);
    let base = ["run", "work", "--id", "4", "--engine", &ring, "--data-dir", &data, "--", "true"];
    let output = election().args(base).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to") && said.contains("give each its own"), "{said}");
}

#[test]
fn a_member_of_another_cluster_is_reported_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, id: u32| directory.path().join(format!("{name}{id}"));
    let run = |id: u32, ring: u32| {
        let number = id.to_string();
        let mut command = election();
        command
            .args(["run", "work", "--id", &number, "--voters", &number])
            .args(["--engine", &format!("embedded:{}", path("ring", ring).display()), "--data-dir"])
            .arg(path("data", id))
            .args(["--", "sh", "-c", &format!("touch ran{id}; exec sleep 1000")])
            .current_dir(directory.path());
        Process::by(command)
    };
    for id in [1, 2] {
        let _alone = run(id, id);
        until("a cluster of one", || path("ran", id).exists().then_some(()));
    }
    let both = [1, 2].map(|id| run(id, 3));
    for member in &both {
        member.says("belongs to another cluster and is ignored: give one of the two another group");
    }
}

#[cfg(not(feature = "corosync"))]
#[test]
fn the_error_about_a_missing_transport_says_how_to_build_it() {
    let run = ["run", "work", "--id", "1", "--engine", "corosync", "--", "true"];
    let output = election().args(run).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("rebuild its package with `--features corosync`"), "{said}");
}

#[test]
fn a_missing_command_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let ring = format!("embedded:{}", directory.path().join("ring").display());
    let output = election()
        .args(["run", "work", "--id", "1", "--voters", "1", "--engine", &ring])
        .args(["--", "/nowhere/command"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("cannot run /nowhere/command"), "{said}");
}
