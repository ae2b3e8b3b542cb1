//! The options that select machines and kernels.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::btfgen;
use crate::error::Result;
use crate::toolchain::machine::{Machine, known_arch};

/// The options that select machines and kernels.
#[derive(Args)]
pub struct Target {
    /// Compile for these machines, separated by commas: x86_64, arm64, riscv64 [default: this machine]
    #[arg(long, value_name = "ARCH", value_delimiter = ',')]
    arch: Vec<String>,

    /// Read kernel types from this vmlinux.h, BTF file or vmlinux [default: the running kernel]
    #[arg(long, value_name = "[ARCH=]FILE")]
    vmlinux: Vec<OsString>,

    /// Add BTF for kernels without BTF to the package, and also write NAME.tar
    #[arg(short, long)]
    btfgen: bool,

    /// BTFHub archive for --btfgen [default: btfhub-archive in eunomia's data directory]
    #[arg(long, value_name = "DIR", requires = "btfgen")]
    btfhub_archive: Option<PathBuf>,
}

impl Target {
    /// The machines, each once.
    pub fn machines(&self) -> Result<Vec<Machine>> {
        let mut machines: Vec<Machine> = Vec::new();
        for arch in &self.arch {
            let arch = known_arch(arch)
                .ok_or_else(|| format!("--arch {arch}: expected x86_64, arm64 or riscv64"))?;
            if machines.iter().all(|machine| machine.arch != Some(arch)) {
                machines.push(Machine { arch: Some(arch), vmlinux: None });
            }
        }
        if machines.is_empty() {
            machines.push(Machine { arch: None, vmlinux: None });
        }
        for value in &self.vmlinux {
            set_vmlinux(&mut machines, value)?;
        }
        Ok(machines)
    }

    /// The BTFHub archive, if --btfgen is given.
    pub fn archive(&self) -> Option<PathBuf> {
        self.btfgen.then(|| self.btfhub_archive.clone().unwrap_or_else(btfgen::default_archive))
    }
}

/// Assigns the value of a --vmlinux to the machine that it is for.
fn set_vmlinux(machines: &mut [Machine], value: &OsString) -> Result<()> {
    let text = value.as_bytes();
    let equals = text.iter().position(|&byte| byte == b'=').unwrap_or(0);
    let arch = std::str::from_utf8(&text[..equals]).ok().and_then(known_arch);
    let shown = Path::new(value).display();
    let machine = match (arch, machines) {
        (None, [machine]) => machine,
        (None, _) => {
            return Err(format!(
                "--vmlinux {shown}: no machine given; name it, for example --vmlinux arm64={shown}"
            )
            .into());
        }
        (Some(arch), machines) => machines
            .iter_mut()
            .find(|machine| machine.name() == arch)
            .ok_or_else(|| format!("--vmlinux {shown}: {arch} is not in the list of --arch"))?,
    };
    let file = if arch.is_some() { text[equals + 1..].to_vec() } else { text.to_vec() };
    if machine.vmlinux.replace(OsString::from_vec(file).into()).is_some() {
        return Err(format!("--vmlinux {shown}: given twice for {}", machine.name()).into());
    }
    Ok(())
}
