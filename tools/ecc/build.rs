//! Passes the directory of libbpf's headers from libbpf-sys to the sources.
fn main() {
    let include = std::env::var("DEP_BPF_INCLUDE").expect("libbpf-sys exports the directory of its headers");
    println!("cargo::rustc-env=LIBBPF_INCLUDE={include}/bpf");
    println!("cargo::rerun-if-changed=build.rs");
}
