//! Kinds of packages, sets of kinds, and the detection of the kind of a package.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::error::{Error, Result, Status};
use crate::package::Package;

/// A kind of package. The numbers are those of the C interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A JSON package, or an object with its metadata.
    Json = 1,
    /// A WASM module that carries packages.
    Wasm = 2,
}

/// The kinds of package that a host accepts. Never empty.
///
/// A single [`Kind`] converts into a set, and `|` joins kinds:
///
/// ```
/// use eunomia::{Kind, Kinds};
///
/// let both = Kind::Json | Kind::Wasm;
/// assert!(both.contains(Kind::Wasm));
/// assert_eq!(both, Kinds::ALL);
/// assert!(!Kinds::from(Kind::Json).contains(Kind::Wasm));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kinds(u32);

impl Kinds {
    /// Every kind that this library can run.
    pub const ALL: Kinds = Kinds(Kind::Json as u32 | Kind::Wasm as u32);

    /// Returns the set with these bits, which are numbers of [`Kind`]. `None` if no bit is set, or an unknown one.
    ///
    /// ```
    /// use eunomia::{Kind, Kinds};
    ///
    /// assert_eq!(Kinds::from_bits(2), Some(Kind::Wasm.into()));
    /// assert_eq!(Kinds::from_bits(0), None);
    /// assert_eq!(Kinds::from_bits(4), None);
    /// ```
    pub const fn from_bits(bits: u32) -> Option<Kinds> {
        if bits != 0 && bits & !Kinds::ALL.0 == 0 { Some(Kinds(bits)) } else { None }
    }

    /// Returns the bits of the set.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns whether `kind` is in the set.
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & kind as u32 != 0
    }
}

impl From<Kind> for Kinds {
    fn from(kind: Kind) -> Kinds {
        Kinds(kind as u32)
    }
}

impl<K: Into<Kinds>> BitOr<K> for Kind {
    type Output = Kinds;

    fn bitor(self, other: K) -> Kinds {
        Kinds::from(self) | other
    }
}

impl<K: Into<Kinds>> BitOr<K> for Kinds {
    type Output = Kinds;

    fn bitor(self, other: K) -> Kinds {
        Kinds(self.0 | other.into().0)
    }
}

impl<K: Into<Kinds>> BitOrAssign<K> for Kinds {
    fn bitor_assign(&mut self, other: K) {
        *self = *self | other;
    }
}

/// Lists the kinds: `{Json, Wasm}`.
impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries([Kind::Json, Kind::Wasm].iter().filter(|kind| self.contains(**kind))).finish()
    }
}

/// Returns the kind of the package `data`; an error if `accepted` lacks it.
pub(super) fn check_kind(data: &[u8], accepted: Kinds) -> Result<Kind> {
    let is_wasm = data.starts_with(b"\0asm");
    let kind = if is_wasm { Kind::Wasm } else { Kind::Json };
    if accepted.contains(kind) {
        return Ok(kind);
    }
    let text = match kind {
        Kind::Wasm => "the package is a WASM module; only JSON packages are accepted",
        Kind::Json => "the package is not a WASM module; only WASM modules are accepted",
    };
    Err(Error::new(Status::Package, text))
}

/// Reads a package that must not be a WASM module.
#[inline(never)]
pub(super) fn json_package(data: &[u8]) -> Result<Package> {
    check_kind(data, Kind::Json.into())?;
    Package::parse(data)
}
