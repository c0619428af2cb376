//! The CPG contract as cases that any engine must pass.
