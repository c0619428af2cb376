//! Errors of the command line say what to do.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

fn lock(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lock"));
    command.args(arguments).env_remove("PLAINSONG_AT").output().expect("the lock binary")
}

#[track_caller]
fn fails(arguments: &[&str], code: i32, message: &str) {
    let output = lock(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert!(error.contains(message), "{arguments:?}: {error}");
    if code != 64 {
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn startup_errors_are_one_line_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("taken.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let taken = socket.to_str().unwrap();
    let serve = ["serve", "--engine", "embedded:/nonexistent/ring"];
    let with = |more: &[&'static str]| [&serve[..], more].concat();
    fails(
        &with(&["--id", "4", "--voters", "1,2,3", "--listen", "127.0.0.1:0"]),
        1,
        "lock: replica 4 is not among the voters 1,2,3: list every initial voter",
    );
    fails(
        &with(&["--id", "1", "--listen", "127.0.0.1:0"]),
        1,
        "there is no directory /nonexistent; create it",
    );
    let engine = format!("embedded:{}", directory.path().join("ring").display());
    let serve = ["serve", "--id", "1", "--engine", &engine];
    fails(&[&serve[..], &["--listen", "0.0.0.0:0"]].concat(), 1, "add --allow-remote");
    fails(&[&serve[..], &["--socket", taken]].concat(), 1, "another process is already listening");
    fails(
        &[&serve[..], &["--socket", "/nonexistent/s"]].concat(),
        1,
        "choose another path with --socket",
    );
    let nobody = directory.path().join("nobody.sock");
    let nobody = nobody.to_str().unwrap();
    fails(&["ls", "--at", nobody], 69, "is `lock serve` running there");
    fails(&["run", "--at", nobody, "a", "--", "true"], 69, "no server could answer");
}

#[test]
fn errors_about_a_busy_port_and_a_foreign_directory_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (engine, socket, data) = (format!("embedded:{}", path("ring")), path("s"), path("data"));
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    let serve = ["serve", "--engine", &engine, "--socket"];
    let with = |socket, more: &[&'static str]| [&serve[..], &[socket], more].concat();
    fails(&[&with(&socket, &["--id", "1"])[..], &["--listen", &busy]].concat(), 1, "with --listen");
    fails(
        &[&with(&socket, &["--id", "1"])[..], &["--metrics", &busy]].concat(),
        1,
        "with --metrics",
    );
    let first =
        [&with(&socket, &["--id", "1", "--voters", "1"])[..], &["--data-dir", &data]].concat();
    let mut first = Command::new(env!("CARGO_BIN_EXE_lock")).args(first).spawn().unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while lock(&["try", "--at", &socket, "a"]).status.code() != Some(0) {
        assert!(std::time::Instant::now() < end, "no server");
    }
    let second = path("second");
    let second = [&with(&second, &["--id", "2"])[..], &["--data-dir", &data]].concat();
    fails(&second, 1, &format!("process {}", first.id()));
    first.kill().unwrap();
    first.wait().unwrap();
    fails(&second, 1, "belongs to");
}

#[cfg(not(feature = "corosync"))]
#[test]
fn the_error_about_a_missing_transport_says_how_to_build_it() {
    let serve = ["serve", "--id", "1", "--engine", "corosync", "--socket", "s"];
    fails(&serve, 64, "rebuild its package with `--features corosync`");
}

#[test]
fn wrong_arguments_exit_with_64() {
    let long = "x".repeat(201);
    fails(&["run", "a", "--", "true"], 64, "--at");
    fails(&["run", "--at", "nowhere", "a", "--", "true"], 64, "HOST:PORT");
    fails(&["run", "--at", "./s", "a"], 64, "COMMAND");
    fails(&["run", "--at", "./s", &long, "--", "true"], 64, "200 printable ASCII");
    fails(&["run", "--at", "./s", "-w", "-1", "a", "--", "true"], 64, "");
    fails(&["run", "--at", "./s", "-w", "2592001", "a", "--", "true"], 64, "from 0.001 to 2592000");
    let nobody = "/nonexistent/s";
    fails(&["run", "--at", nobody, "-w", "3600", "a", "--", "true"], 69, "no server could answer");
    fails(
        &["run", "--at", nobody, "-w", "2592000", "a", "--", "true"],
        69,
        "no server could answer",
    );
    fails(&["run", "--at", "./s", "--kill-after", "3001", "a", "--", "true"], 64, "to 3000");
    fails(&["run", "--at", "./s", "--lease", "1", "a", "--", "true"], 64, "from 3 to 86400");
    fails(&["serve", "--id", "1", "--engine", "embedded:x"], 64, "--socket");
    fails(&["serve", "--id", "0", "--engine", "embedded:x", "--socket", "s"], 64, "--id");
}

#[test]
fn a_socket_left_by_a_dead_process_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("old.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let engine = format!("embedded:{}", directory.path().join("ring").display());
    let path = socket.to_str().unwrap();
    let serve = ["serve", "--id", "1", "--voters", "1", "--engine", &engine, "--socket", path];
    let mut server = Command::new(env!("CARGO_BIN_EXE_lock")).args(serve).spawn().unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while lock(&["try", "--at", path, "a"]).status.code() != Some(0) {
        assert!(std::time::Instant::now() < end, "no server");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a_path_that_is_not_a_dead_socket_is_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    std::fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let engine = format!("embedded:{}", directory.path().join("ring").display());
    for path in [&file, &link] {
        let path = path.to_str().unwrap();
        let serve = ["serve", "--id", "1", "--voters", "1", "--engine", &engine, "--socket", path];
        fails(&serve, 1, "is not a socket, so it was not replaced; choose another path");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert!(link.is_symlink());
}

#[test]
fn only_operators_can_break_locks() {
    let directory = tempfile::tempdir().unwrap();
    let engine = format!("embedded:{}", directory.path().join("ring").display());
    let socket = directory.path().join("s");
    let path = socket.to_str().unwrap();
    let serve = ["serve", "--id", "1", "--voters", "1", "--engine", &engine];
    let serve = [&serve[..], &["--socket", path, "--listen", "127.0.0.1:0"]].concat();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lock"));
    let mut server = command.args(serve).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let out = server.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    let port = line.split_whitespace().find(|word| word.starts_with("127.")).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while lock(&["try", "--at", path, "a"]).status.code() != Some(0) {
        assert!(std::time::Instant::now() < end, "no server");
    }
    let mut client = TcpStream::connect(port).unwrap();
    client.write_all(b"BREAK a NOW\r\n").unwrap();
    let mut refusal = String::new();
    BufReader::new(client).read_line(&mut refusal).unwrap();
    assert!(refusal.starts_with("-NOPERM only operators may send this request"), "{refusal}");
    assert!(refusal.contains(path), "{refusal}");
    // On the same host, the command line finds the server's socket by itself.
    let output = lock(&["break", "--at", port, "a"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("NOPERM"), "{error}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn help_shows_how_to_start() {
    let output = lock(&["--help"]);
    let help = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for part in ["lock serve --id 1 --voters 1,2,3", "LOCK_TOKEN", "Exit status", "redis-cli"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    let output = lock(&["run", "--help"]);
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("2592000 (30 days)"), "{help}");
}
