//! Switches the library's files that are compiled here to primitives that choose who goes next.

fn main() {
    println!("cargo::rustc-cfg=pymq_models");
    println!("cargo::rerun-if-changed=build.rs");
}
