# Short names for the scripts of the repository. `just --list` shows them; just is optional.

# Lists the recipes.
default:
    @just --list --unsorted

# Checks formatting, lints, documentation and the protocol's rules. Needs libcpg and libquorum.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features
    tests/rules
    tests/mutate --check

# Runs all tests; arguments select tests by name: `just test figure_8`.
test *args:
    tests/run {{args}}

# Runs simulated groups: `just sim --seeds 1000`, or one seed: `just sim --first 17 --trace`.
sim *args:
    tests/simulate {{args}}

# Breaks rules of the protocol one by one: `just mutate NAME`, or `just mutate --all`.
mutate *args:
    tests/mutate {{args}}

# Runs groups on real Corosync daemons under faults: `just torture --minutes 5`. Needs root.
torture *args:
    tests/torture {{args}}

# Fuzzes all decoders, 60 s each, or one of them: `just fuzz 600 frame`.
fuzz *args:
    tests/fuzz/run {{args}}

# Measures: `just bench embedded 10`. Without arguments, lists the measurements.
bench *args:
    benches/run {{args}}

# Builds the documentation of all crates.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# Runs everything that a change must pass.
ci:
    .ci/run
