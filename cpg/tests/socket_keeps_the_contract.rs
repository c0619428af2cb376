//! The CPG contract, on the embedded transport for the processes of one host.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::Meeting;
use cpg::conformance;

#[test]
fn child() {
    common::be_child();
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                conformance::run(stringify!($name), &Meeting::new());
            }
        )*
    };
}

cpg::for_each_conformance_case!(tests);
