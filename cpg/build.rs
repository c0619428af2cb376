//! Finds libcpg and libquorum, for the feature `corosync` only.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "corosync")]
    for library in ["libcpg", "libquorum"] {
        // 3.1.6 is the first that does not lose recovered messages when the ring changes.
        if let Err(error) = pkg_config::Config::new().atleast_version("3.1.6").probe(library) {
            eprintln!(
                "{library} 3.1.6 or newer was not found. On Debian: apt-get install libcpg-dev \
                 libquorum-dev pkg-config. Or build without the feature `corosync`.\n{error}"
            );
            std::process::exit(1);
        }
    }
}
