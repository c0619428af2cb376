//! Finds libcpg and libquorum for the feature `corosync`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DOCS_RS");
    #[cfg(feature = "corosync")]
    find_libraries();
}

#[cfg(feature = "corosync")]
fn find_libraries() {
    // Documentation links nothing, and docs.rs may not have the libraries.
    if std::env::var_os("DOCS_RS").is_some() {
        return;
    }
    for library in ["libcpg", "libquorum"] {
        // Versions before 3.1.6 can lose recovered messages when the ring changes.
        if let Err(error) = pkg_config::Config::new().atleast_version("3.1.6").probe(library) {
            eprintln!(
                "{library} 3.1.6 or newer was not found. On Debian: apt-get install libcpg-dev \
                 libquorum-dev pkg-config. Or build without the feature `corosync`.\n{error}"
            );
            std::process::exit(1);
        }
    }
}
