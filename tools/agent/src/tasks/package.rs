//! Reads packages of requests, without privileges.

use eunomia::package::Package;
use eunomia::{Kind, Options, Vm};
use http::StatusCode;

use crate::error::{ApiError, Result};

/// Checks the package of a request for the first time, without privileges. Returns its name.
pub fn check_package(package: &[u8]) -> Result<Package> {
    let other = match package {
        [0, b'a', b's', b'm', ..] => Some("a WASM module; the server runs JSON packages only"),
        [0x7f, b'E', b'L', b'F', ..] => Some("a BPF object; send the package.json that ecc writes"),
        _ if package.get(257..262) == Some(b"ustar") => Some("a tar archive; send the package.json inside"),
        _ => None,
    };
    if let Some(other) = other {
        let text = format!("package: this is {other}");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported", text));
    }
    Ok(Package::parse(package)?)
}

/// Describes a package without loading it.
pub fn describe_package(package: &[u8]) -> Result<String> {
    check_package(package)?;
    let vm = Vm::new(Options::new())?;
    vm.open(package, Kind::Json)?;
    Ok(vm.describe()?)
}
