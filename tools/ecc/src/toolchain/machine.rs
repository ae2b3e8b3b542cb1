//! The machines that a program is compiled for, and where the types of their kernels come from.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;
use eunomia::package::machine;

use crate::btfgen;
use crate::error::Result;

/// Options about machines and kernels.
#[derive(Args)]
pub struct Options {
    /// Compile for these machines (x86_64, arm64, riscv64), separated by commas; with several, the package has an object for
    /// each [default: this machine, without saying so in the package]
    #[arg(long, value_name = "ARCH", value_delimiter = ',')]
    arch: Vec<String>,

    /// Take the kernel's types from this vmlinux.h, BTF file or vmlinux, not from the running kernel. With several machines,
    /// one for each: --vmlinux arm64=FILE
    #[arg(long, value_name = "[ARCH=]FILE")]
    vmlinux: Vec<OsString>,

    /// Put BTF into the package, for kernels that have none: of those in a BTFHub archive what the program needs. Writes
    /// NAME.tar too, for loaders that take it from there
    #[arg(short, long)]
    btfgen: bool,

    /// The archive for it [default: btfhub-archive in the data folder of eunomia]
    #[arg(long, value_name = "DIR", requires = "btfgen")]
    btfhub_archive: Option<PathBuf>,
}

/// A machine to compile for.
pub struct Machine {
    /// Its name in packages; none for this machine, if nobody asked for it by name.
    pub arch: Option<&'static str>,
    /// Where the types of its kernel come from, if the user says so.
    pub vmlinux: Option<PathBuf>,
}

/// Architectures, as packages and as libbpf's bpf_tracing.h name them.
const KNOWN: [(&str, &str); 3] = [("x86_64", "x86"), ("arm64", "arm64"), ("riscv64", "riscv")];

impl Options {
    /// The machines, each once.
    pub fn machines(&self) -> Result<Vec<Machine>> {
        let mut machines: Vec<Machine> = Vec::new();
        for arch in &self.arch {
            let arch =
                known(arch).ok_or_else(|| format!("--arch {arch}: expected x86_64, arm64 or riscv64"))?;
            if machines.iter().all(|machine| machine.arch != Some(arch)) {
                machines.push(Machine { arch: Some(arch), vmlinux: None });
            }
        }
        if machines.is_empty() {
            machines.push(Machine { arch: None, vmlinux: None });
        }
        for given in &self.vmlinux {
            self.give(&mut machines, given)?;
        }
        Ok(machines)
    }

    /// Hands a --vmlinux to the machine that it is for.
    fn give(&self, machines: &mut [Machine], given: &OsString) -> Result<()> {
        let text = given.as_bytes();
        let equals = text.iter().position(|&byte| byte == b'=').unwrap_or(0);
        let arch = std::str::from_utf8(&text[..equals]).ok().and_then(known);
        let shown = Path::new(given).display();
        let machine = match (arch, machines) {
            (None, [machine]) => machine,
            (None, _) => {
                return Err(
                    format!("--vmlinux {shown}: for which machine? Say --vmlinux arm64={shown}").into()
                );
            }
            (Some(arch), machines) => {
                machines.iter_mut().find(|machine| machine.name() == arch).ok_or_else(|| {
                    format!("--vmlinux {shown}: {arch} is not among the machines that --arch names")
                })?
            }
        };
        let file = if arch.is_some() { text[equals + 1..].to_vec() } else { text.to_vec() };
        if machine.vmlinux.replace(OsString::from_vec(file).into()).is_some() {
            return Err(format!("--vmlinux {shown}: is given twice for {}", machine.name()).into());
        }
        Ok(())
    }

    /// The BTFHub archive, if kernels without BTF are to be served.
    pub fn archive(&self) -> Option<PathBuf> {
        self.btfgen.then(|| self.btfhub_archive.clone().unwrap_or_else(btfgen::default_folder))
    }
}

impl Machine {
    /// Its name in packages.
    pub fn name(&self) -> &'static str {
        self.arch.unwrap_or(machine::native())
    }

    /// Its name in libbpf's bpf_tracing.h.
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

    /// Whether the running kernel is none of this machine.
    pub fn is_foreign(&self) -> bool {
        self.name() != machine::native()
    }
}

fn known(arch: &str) -> Option<&'static str> {
    KNOWN.iter().map(|(name, _)| *name).find(|name| *name == machine::name(arch))
}
