//! Checks that each rule of the protocol is named by code and by tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use plainsong_tests::rules::{Rules, TABLE};

#[test]
fn rules_paths_and_mutations_have_no_gaps() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let rules = Rules::read(root).unwrap();
    assert!(rules.problems().is_empty(), "\n{}", rules.problems().join("\n"));
    let table = fs::read_to_string(root.join(TABLE)).unwrap_or_default();
    assert!(table == rules.table(), "{TABLE} is not up to date: run tests/rules --write");
}
