//! The machines that a program can be compiled for.

use std::path::PathBuf;

use eunomia::package::machine;

/// A machine to compile for.
pub struct Machine {
    /// Its name in packages. `None` means this machine, without a name in the package.
    pub arch: Option<&'static str>,
    /// The file with its kernel's types, if the user names one.
    pub vmlinux: Option<PathBuf>,
}

/// The names of architectures in packages, and in libbpf's `bpf_tracing.h`.
const KNOWN: [(&str, &str); 3] = [("x86_64", "x86"), ("arm64", "arm64"), ("riscv64", "riscv")];

/// The name in packages of an architecture that is supported as a target.
pub fn known_arch(arch: &str) -> Option<&'static str> {
    KNOWN.iter().map(|(name, _)| *name).find(|name| *name == machine::name(arch))
}

impl Machine {
    /// Its name in packages.
    pub fn name(&self) -> &'static str {
        self.arch.unwrap_or(machine::native())
    }

    /// Its name in libbpf's `bpf_tracing.h`.
    pub fn libbpf_name(&self) -> &'static str {
        match KNOWN.iter().find(|(name, _)| *name == self.name()) {
            Some((_, name)) => name,
            None => match std::env::consts::ARCH {
                "powerpc64" => "powerpc",
                "loongarch64" => "loongarch",
                "s390x" => "s390",
                "mips64" => "mips",
                other => other,
            },
        }
    }

    /// Whether it differs from the machine of the running kernel.
    pub fn is_foreign(&self) -> bool {
        self.name() != machine::native()
    }
}
