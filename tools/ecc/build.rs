//! Tells the sources where libbpf-sys keeps the headers of the libbpf it was built with.
fn main() {
    let include = std::env::var("DEP_BPF_INCLUDE").expect("libbpf-sys exports the folder of its headers");
    println!("cargo::rustc-env=LIBBPF_INCLUDE={include}/bpf");
    println!("cargo::rerun-if-changed=build.rs");
}
