//! Checks that all mutations apply. `tests/mutate` checks that they are detected.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use plainsong_tests::mutation::Mutation;

#[test]
fn every_mutation_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let all = Mutation::all(root).unwrap();
    assert!(!all.is_empty());
    let fails = all.iter().filter_map(|mutation| {
        let error = mutation.applies(root).err()?;
        Some(format!("{}: {error}", mutation.path()))
    });
    let fails: Vec<_> = fails.collect();
    assert!(fails.is_empty(), "\n{}", fails.join("\n"));
}
