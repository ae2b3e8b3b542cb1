//! Formats of values whose C type does not determine how they are shown: addresses, names of numbers, times.
//!
//! A package specifies the formats of members; a few well-known types have a format by themselves. The format is part of
//! the type, so that values are written and read in that format.

use super::names::Names;

/// The format of a value.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueFormat {
    /// An IPv4 address, 4 bytes in network byte order: `10.0.0.1`.
    Ipv4,
    /// An IPv6 address, 16 bytes in network byte order, as in RFC 5952: `2001:db8::1`.
    Ipv6,
    /// A MAC address, 6 bytes: `02:42:ac:11:00:02`.
    Mac,
    /// An error number: a number in JSON, its name in text (`ENOENT`). In a signed integer, an error number is
    /// negative.
    Errno,
    /// The name of a system call of this machine, `openat`.
    Syscall,
    /// The name of a signal, `SIGTERM`.
    Signal,
    /// A hexadecimal number, `0x1f`; an array of bytes as two digits per byte.
    Hex,
    /// Nanoseconds of CLOCK_MONOTONIC, as UTC: `2026-01-31T12:00:00.000000001Z`.
    Ktime,
    /// Nanoseconds: a number in JSON, `1.500ms` in text.
    Duration,
    /// Return addresses, up to the first that is 0.
    Stack,
    /// Several NUL-terminated strings in one array: an array in JSON, separated by spaces in text.
    Strings,
}

use ValueFormat::*;

/// All formats, in the order of the enum.
const FORMATS: [ValueFormat; 11] =
    [Ipv4, Ipv6, Mac, Errno, Syscall, Signal, Hex, Ktime, Duration, Stack, Strings];
/// Their names in packages, in the same order.
const NAMES: &str = "ipv4 ipv6 mac errno syscall signal hex ktime duration stack strings";

impl ValueFormat {
    /// Returns the format with that name.
    pub fn from_name(name: &str) -> Option<ValueFormat> {
        NAMES.split(' ').position(|known| known == name).map(|index| FORMATS[index])
    }

    /// Returns the names of all formats, separated by spaces.
    pub fn names() -> &'static str {
        NAMES
    }

    /// Returns its name in packages.
    pub fn name(self) -> &'static str {
        NAMES.split(' ').nth(self as usize).unwrap_or_default()
    }

    /// Describes the values that can have the format, for messages.
    pub(super) fn requirement(self) -> &'static str {
        match self {
            Ipv4 => "4 bytes",
            Ipv6 => "16 bytes",
            Mac => "6 bytes",
            Errno | Syscall | Signal => "an integer",
            Hex => "an integer, a pointer or bytes",
            Ktime | Duration => "an integer of 64 bits",
            Stack => "an array of integers of 64 bits",
            Strings => "an array of characters or bytes",
        }
    }

    /// Whether its values are numbers in JSON, so that a consumer can compute with them.
    pub(crate) fn is_number_in_json(self) -> bool {
        matches!(self, Duration | Errno)
    }

    /// Whether its values are written as names of numbers.
    pub(crate) fn has_names(self) -> bool {
        self.numbers().is_some()
    }

    /// Returns the names that its numbers have.
    fn numbers(self) -> Option<Names> {
        match self {
            Errno => Some(Names::Errors),
            Syscall => Some(Names::SystemCalls),
            Signal => Some(Names::Signals),
            _ => None,
        }
    }

    /// Passes each name and its number in an integer type of that size to `found`. An error that is returned is negative.
    /// Numbers that the type cannot hold are left out: truncated, they would mean another name.
    pub(crate) fn constants(self, size: usize, signed: bool, found: &mut dyn FnMut(i64, &'static str)) {
        let Some(names) = self.numbers() else { return };
        let largest = match size {
            1 if signed => i8::MAX.into(),
            1 => u8::MAX.into(),
            // No number takes more than 15 bits.
            _ => i64::MAX,
        };
        let sign = if self == Errno && signed { -1 } else { 1 };
        names.for_each(&mut |number, name| {
            if i64::from(number) <= largest {
                found(sign * i64::from(number), name);
            }
        });
    }
}
