//! Comments and documents are free of common faults of style.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use plainsong_tests::prose;

#[test]
fn comments_and_documents_have_no_faults_of_style() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let faults = prose::faults(root).unwrap();
    let mut lines = String::new();
    for fault in &faults {
        writeln!(lines, "{fault}").unwrap();
    }
    assert!(faults.is_empty(), "{} faults:\n{lines}", faults.len());
}
