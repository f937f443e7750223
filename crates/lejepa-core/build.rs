//! Nothing to build: `links` needs a build script to exist.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
