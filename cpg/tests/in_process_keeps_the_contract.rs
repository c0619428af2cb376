//! The CPG contract, on the embedded transport within one process.

use cpg::conformance::{self, InProcess};

macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                conformance::run(stringify!($name), &InProcess::new());
            }
        )*
    };
}

cpg::for_each_conformance_case!(tests);
