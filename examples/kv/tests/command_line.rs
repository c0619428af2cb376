//! Errors of the command line name the cause and the remedy.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output};

mod common;
use common::{Serve, until};

fn kv(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv")).args(arguments).output().expect("the kv binary")
}

fn serve(more: &[&str]) -> Output {
    kv(&[&["serve", "--listen", "127.0.0.1:0"], more].concat())
}

#[test]
fn invalid_options_print_one_line_with_a_remedy_and_exit_with_1() {
    let engine = ["--engine", "embedded:/nonexistent/kv.ring"];
    for (arguments, message) in [
        (
            [&["--id", "4", "--voters", "1,2,3"], &engine[..]].concat(),
            "kv: replica 4 is not among the voters 1,2,3: list every initial voter in --voters, \
             including this replica\n",
        ),
        (
            [&["--id", "1", "--voters", "1,2,2"], &engine[..]].concat(),
            "kv: --voters lists replica 2 twice: list each replica once\n",
        ),
        (
            [&["--id", "1", "--voters", "1"], &engine[..]].concat(),
            "kv: --engine embedded:/nonexistent/kv.ring: there is no directory /nonexistent; create \
             it, or choose a path in one that exists\n",
        ),
        (
            [&["--id", "1", "--voters", "1", "--durability", "disk"], &engine[..]].concat(),
            "kv: --durability disk needs a data directory for the log: add --data-dir DIR\n",
        ),
        (
            [
                &["--id", "1", "--durability", "memory", "--data-dir", "/nonexistent/kv"],
                &engine[..],
            ]
            .concat(),
            "kv: --durability memory contradicts --data-dir /nonexistent/kv, which keeps the log on \
             disk: leave out --data-dir, or use --durability disk\n",
        ),
    ] {
        let output = serve(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.starts_with(message), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn resources_in_use_are_reported_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let data = path("data");
    let running = Serve::start_alone(&directory.path().join("ring"), &["--data-dir", &data]);
    let port = running.address.to_string();
    let start = |id: &str, more: &[&str]| {
        let engine = format!("embedded:{}", path("other ring"));
        let arguments = ["serve", "--id", id, "--voters", id, "--engine", &engine];
        let output = kv(&[&arguments[..], more].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    let error = start("1", &["--listen", &port]);
    assert!(error.starts_with(&format!("kv: cannot listen on {port}: ")), "{error}");
    assert!(
        error.contains("stop the process that listens there, or choose another port with --listen")
    );
    let free = ["--listen", "127.0.0.1:0", "--data-dir", &data];
    let error = start("1", &free);
    assert!(error.starts_with("kv: replica 1 cannot start: "), "{error}");
    assert!(error.contains("in use by") || error.contains("process"), "{error}");
    drop(running);
    let error = start("2", &free);
    assert!(error.contains("belongs to replica 1 of kv, and this is replica 2 of kv"), "{error}");
    assert!(error.contains("give each its own"), "{error}");
}

#[test]
fn host_names_are_accepted_as_listen_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let engine = format!("embedded:{}", directory.path().join("ring").display());
    for (listen, more) in
        [("localhost:0", None), ("*:0", Some("--allow-remote")), (":0", Some("--allow-remote"))]
    {
        let mut arguments = vec!["serve", "--id", "1", "--voters", "1", "--engine", &engine];
        arguments.extend(["--listen", listen]);
        arguments.extend(more);
        let mut process = common::kv(&arguments);
        let port: u16 = until("an address on stdout", || {
            assert!(process.status().is_none(), "{listen}: {:?}", process.err());
            let lines = process.out();
            let address = lines.iter().find_map(|line| line.trim().strip_prefix("replica 1: "));
            address?.rsplit_once(':')?.1.parse().ok()
        });
        common::ready(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let output = kv(&["serve", "--id", "1", "--engine", &engine, "--listen", "*:0"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("kv: --listen *:0: other hosts can reach this address"), "{error}");
}

#[test]
fn only_a_dead_socket_is_replaced_by_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    std::fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let engine = format!("embedded:{}", directory.path().join("ring").display());
    for path in [&file, &link, &directory.path().to_path_buf()] {
        let path = path.display().to_string();
        let output = serve(&["--id", "1", "--voters", "1", "--engine", &engine, "--socket", &path]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        let message = format!(
            "cannot listen on {path}: it exists and is not a socket, so it was not replaced; choose"
        );
        assert!(error.contains(&message), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert!(link.is_symlink());
}

#[test]
fn an_invalid_command_line_exits_with_2() {
    let long = "x".repeat(121);
    for (arguments, message) in [
        (vec!["--id", "1", "--engine", "carrier-pigeon"], "unknown transport \"carrier-pigeon\""),
        (vec!["--id", "1", "--engine", "embedded:"], "embedded:PATH"),
        (vec!["--id", "0", "--engine", "embedded:x"], "--id"),
        (vec!["--id", "1", "--engine", "embedded:x", "--voters", "1,x"], "--voters"),
        (vec!["--id", "1", "--engine", "embedded:x", "--group", &long], "120 printable ASCII"),
        (vec!["--id", "1", "--engine", "embedded:x", "--group", ""], "120 printable ASCII"),
        (vec!["--id", "1", "--engine", "embedded:x", "--timeout", "0"], "0.001"),
        (vec!["--id", "1"], "--engine"),
        (vec!["--engine", "embedded:x"], "--id"),
        (vec!["--id", "1", "--engine", "embedded:x", "--durability", "ssd"], "memory, disk"),
    ] {
        let output = serve(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
}

#[test]
fn help_explains_each_durability() {
    let help = String::from_utf8(kv(&["serve", "--help"]).stdout).unwrap();
    for part in ["- memory:", "Everything is lost", "- disk:", "the power fails"] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn help_shows_how_to_start_a_group() {
    let output = kv(&["--help"]);
    let help = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for part in
        ["kv serve --id 1 --voters 1,2,3", "redis-cli -p 7001", "Exit status", "[default: 7001]"]
    {
        assert!(help.contains(part), "{part}: {help}");
    }
}
