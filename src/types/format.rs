//! How a value is written where its type does not tell: addresses, names of numbers, times.
//!
//! The package says it of members, well-known types say it themselves. What is decided here is part of the type, so
//! that whatever is compiled from one, and whatever is written back to one, follows it.

use super::names::Names;

/// How a value is written.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    /// 4 bytes in network order: `10.0.0.1`.
    Ipv4,
    /// 16 bytes in network order, as RFC 5952 writes them: `2001:db8::1`.
    Ipv6,
    /// 6 bytes: `02:42:ac:11:00:02`.
    Mac,
    /// A number in JSON, in text the name of an error, `ENOENT`: of a negative number in a signed integer, of any in an
    /// unsigned one.
    Errno,
    /// The name of a system call of this machine, `openat`.
    Syscall,
    /// The name of a signal, `SIGTERM`.
    Signal,
    /// `0x1f`; an array of bytes as two digits for each.
    Hex,
    /// Nanoseconds of CLOCK_MONOTONIC as a time of day: `2026-01-31T12:00:00.000000001Z`.
    Ktime,
    /// Nanoseconds: a number in JSON, `1.500ms` in text.
    Duration,
    /// Return addresses up to the first that is zero.
    Stack,
    /// Several texts, each with its NUL, in one array of characters: an array in JSON, in text with blanks between them.
    Strings,
}

use ValueFormat::*;

/// In the order of the enum.
const FORMATS: [ValueFormat; 11] =
    [Ipv4, Ipv6, Mac, Errno, Syscall, Signal, Hex, Ktime, Duration, Stack, Strings];
/// Their names in packages.
const NAMES: &str = "ipv4 ipv6 mac errno syscall signal hex ktime duration stack strings";

impl ValueFormat {
    /// The format of that name.
    pub fn named(name: &str) -> Option<ValueFormat> {
        NAMES.split(' ').position(|known| known == name).map(|at| FORMATS[at])
    }

    /// The names of all formats, for a message.
    pub fn names() -> &'static str {
        NAMES
    }

    /// Its name in packages.
    pub fn name(self) -> &'static str {
        NAMES.split(' ').nth(self as usize).unwrap_or_default()
    }

    /// What a value has to be, for a message.
    pub(super) fn needs(self) -> &'static str {
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

    /// Whether its values are numbers in JSON, to compute with and to compare.
    pub(crate) fn is_number_in_json(self) -> bool {
        matches!(self, Duration | Errno)
    }

    /// Whether its values are written as names of numbers.
    pub(crate) fn has_names(self) -> bool {
        self.numbers().is_some()
    }

    /// The numbers that have names.
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
        names.each(&mut |number, name| {
            if i64::from(number) <= largest {
                found(sign * i64::from(number), name);
            }
        });
    }
}
