//! Writes the C header to OUT_DIR, sets the name of the shared library, and collects the facts for eunomia_version_string.
//!
//! `cargo xtask header` copies the header to include/; a test compares the two.

use std::env;
use std::path::Path;

/// In the order of the header's sections.
const SOURCES: [&str; 16] = [
    "status",
    "types",
    "handle",
    "version",
    "lifecycle",
    "last_error",
    "variables",
    "events",
    "group",
    "replace",
    "phases",
    "export",
    "maps",
    "introspect",
    "test_run",
    "wasm",
];

fn main() {
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=src/capi");
    println!("cargo:rustc-env=EUNOMIA_TARGET={}", var("TARGET"));
    println!("cargo:rustc-env=EUNOMIA_PROFILE={}", var("PROFILE"));
    println!("cargo:rustc-env=EUNOMIA_BPF_INCLUDE={}", var("DEP_BPF_INCLUDE")); // tests compile BPF programs
    if env::var_os("CARGO_FEATURE_CAPI").is_some() {
        set_link_options();
        leave_out_the_generator();
        leave_out_native_calls();
        write_header();
    }
}

/// Sets the soname and linker options. Before 1.0 each minor version may break the ABI, so each has its own name. The library
/// stays mapped after dlclose, because threads that have used it run its code when they end.
fn set_link_options() {
    let (major, minor) = (var("CARGO_PKG_VERSION_MAJOR"), var("CARGO_PKG_VERSION_MINOR"));
    let suffix = if major == "0" { format!("0.{minor}") } else { major };
    for argument in [&format!("-soname,libeunomia.so.{suffix}"), "-z,nodelete", "-z,relro", "-z,now"] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,{argument}");
    }
}

/// libbpf can generate a program that loads an object (bpf_object__gen_loader). The library does not use this, but the
/// compiler cannot know. So the linker replaces each function of the generator by one that checks for a null pointer
/// and returns, and drops the generator (10 kB).
fn leave_out_the_generator() {
    let unreached = [
        "finish",
        "init",
        "load_btf",
        "map_create",
        "map_freeze",
        "map_update_elem",
        "populate_outer_map",
        "prog_load",
        "record_attach_target",
        "record_extern",
        "record_relo_core",
    ];
    for function in unreached {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--defsym=bpf_gen__{function}=bpf_gen__free");
    }
    // Only the generator and a call that the library does not make compute digests (2 kB). libelf walks through the
    // members of archives, which the library does not open; the replacement reports that there is none (1 kB).
    // libbpf adapts the types of a kernel module that was compiled for another kernel when it reads them from the module's
    // file; the library reads only what the kernel has. The replacement reports an error (3 kB).
    for (function, other) in [
        ("libbpf_sha256", "libbpf_major_version"),
        ("__libelf_next_arhdr_wrlock", "elf_kind"),
        ("btf_relocate", "libbpf_major_version"),
    ] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--defsym={function}={other}");
    }
}

/// Every function that guests import is registered as raw: it gets the array of arguments. WAMR can also call functions
/// with their arguments in registers, and those of the standard C API. A function that returns "failed" replaces both
/// (2.6 kB).
fn leave_out_native_calls() {
    if env::var_os("CARGO_FEATURE_WASM").is_some() {
        for function in ["wasm_runtime_invoke_native", "wasm_runtime_invoke_c_api_native"] {
            println!("cargo:rustc-cdylib-link-arg=-Wl,--defsym={function}=bh_platform_init");
        }
    }
}

fn write_header() {
    let mut config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml is readable");
    config.after_includes = Some(macros());
    let sources = SOURCES.iter().map(|name| format!("src/capi/{name}.rs"));
    let builder = sources.fold(cbindgen::Builder::new(), |builder, path| builder.with_src(path));
    let header = builder.with_config(config).generate().expect("src/capi makes a header");
    header.write_to_file(Path::new(&var("OUT_DIR")).join("eunomia.h"));
}

/// The macros, which cbindgen cannot generate. The version comes from Cargo.toml alone.
fn macros() -> String {
    let part = |name: &str| var(name).parse::<u32>().expect("a version part is a number");
    let (major, minor) = (part("CARGO_PKG_VERSION_MAJOR"), part("CARGO_PKG_VERSION_MINOR"));
    let patch = part("CARGO_PKG_VERSION_PATCH");
    format!(
        "
// Version of this header. eunomia_version returns the version of the library in use.
#define EUNOMIA_VERSION_MAJOR {major}
#define EUNOMIA_VERSION_MINOR {minor}
#define EUNOMIA_VERSION_PATCH {patch}
#define EUNOMIA_VERSION_NUM {} // MAJOR * 10000 + MINOR * 100 + PATCH

// Initializes a struct with a size field, in C: eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
#define EUNOMIA_INIT(type) {{ .size = sizeof(type) }}",
        major * 10000 + minor * 100 + patch
    )
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
