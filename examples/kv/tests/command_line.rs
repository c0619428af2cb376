//! A wrong command line is told in words that help.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::process::{Command, Output};

fn kv(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv")).args(arguments).output().expect("the kv binary")
}

fn serve(more: &[&str]) -> Output {
    kv(&[&["serve", "--listen", "127.0.0.1:0"], more].concat())
}

#[test]
fn what_cannot_work_is_one_line_with_a_remedy_and_exit_code_1() {
    let engine = ["--engine", "embedded:/nonexistent/kv.ring"];
    for (arguments, told) in [
        (
            [&["--id", "4", "--voters", "1,2,3"], &engine[..]].concat(),
            "kv: replica 4 is not among the voters 1,2,3: name all first voters in --voters, this \
             one too\n",
        ),
        (
            [&["--id", "1", "--voters", "1,2,2"], &engine[..]].concat(),
            "kv: --voters names replica 2 twice: name each once\n",
        ),
        (
            [&["--id", "1", "--voters", "1"], &engine[..]].concat(),
            "kv: --engine embedded:/nonexistent/kv.ring: there is no directory /nonexistent; create \
             it, or choose a path in one that exists\n",
        ),
    ] {
        let output = serve(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.starts_with(told), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_is_not_understood_has_exit_code_2() {
    let long = "x".repeat(121);
    for (arguments, told) in [
        (vec!["--id", "1", "--engine", "carrier-pigeon"], "no engine is called \"carrier-pigeon\""),
        (vec!["--id", "1", "--engine", "embedded:"], "embedded:PATH"),
        (vec!["--id", "0", "--engine", "embedded:x"], "--id"),
        (vec!["--id", "1", "--engine", "embedded:x", "--voters", "1,x"], "--voters"),
        (vec!["--id", "1", "--engine", "embedded:x", "--group", &long], "120 printable ASCII"),
        (vec!["--id", "1", "--engine", "embedded:x", "--group", ""], "120 printable ASCII"),
        (vec!["--id", "1", "--engine", "embedded:x", "--timeout", "0"], "0.001"),
        (vec!["--id", "1"], "--engine"),
        (vec!["--engine", "embedded:x"], "--id"),
    ] {
        let output = serve(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(told), "{arguments:?}: {error}");
    }
}

#[test]
fn help_shows_how_to_start_a_group() {
    let output = kv(&["--help"]);
    let help = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for part in
        ["kv serve --id 1 --voters 1,2,3", "redis-benchmark", "Exit status", "[default: 7001]"]
    {
        assert!(help.contains(part), "{part}: {help}");
    }
}
