//! The descriptors of a loaded package with their roles, and their description as JSON, to send them to another process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde_json::Value;

use crate::error::{Error, Result, Status};
use crate::package::{Package, compact, members};

/// The role of a descriptor of [`Exported`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FdRole {
    /// A map.
    Map {
        /// Its name.
        name: String,
    },
    /// The perf event of one CPU, whose buffer programs write to through a perf event array.
    PerfEvent {
        /// The name of the array.
        map: String,
        /// The CPU.
        cpu: u32,
        /// The pages of data in its buffer, a power of two.
        pages: u32,
    },
    /// A program.
    Program {
        /// Its name.
        name: String,
    },
    /// The dispatcher of a program, which is attached instead of it; see
    /// [`Options::replaceable`](crate::Options::replaceable).
    Dispatcher {
        /// The name of the program that it calls.
        program: String,
    },
    /// The program array of a dispatcher.
    Slots {
        /// The name of the program that it calls.
        program: String,
    },
    /// The map with the number that selects a slot in all dispatchers of the package.
    Generation,
    /// A link. Some kinds (kprobes, uprobes, tracepoints, perf events) keep a program attached until all copies of the
    /// descriptor are closed.
    Link {
        /// The name of the program.
        program: String,
    },
}

/// The descriptors of a package for another process, see [`Vm::export`](crate::Vm::export). It owns them.
///
/// To send it, pass [`description`](Exported::description) as text and [`fds`](Exported::fds) in the same order, for
/// example with `SCM_RIGHTS`. One message can have at most 253 descriptors. The receiver calls
/// [`from_parts`](Exported::from_parts).
#[derive(Debug)]
pub struct Exported {
    /// Identifies the object of the package.
    object: u64,
    items: Vec<(FdRole, OwnedFd)>,
}

impl Exported {
    /// Starts without descriptors.
    pub(super) fn new(package: &Package) -> Exported {
        Exported { object: identify(&package.object), items: Vec::new() }
    }

    pub(super) fn push(&mut self, role: FdRole, fd: OwnedFd) {
        self.items.push((role, fd));
    }

    /// Whether these are descriptors of a package with the same object.
    pub(super) fn is_of(&self, package: &Package) -> bool {
        self.object == identify(&package.object)
    }

    pub(super) fn into_items(self) -> Vec<(FdRole, OwnedFd)> {
        self.items
    }

    /// The descriptors with their roles.
    pub fn items(&self) -> impl ExactSizeIterator<Item = (&FdRole, BorrowedFd<'_>)> {
        self.items.iter().map(|(role, fd)| (role, fd.as_fd()))
    }

    /// The descriptors, in the order of the description.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.items.iter().map(|(_, fd)| fd.as_fd()).collect()
    }

    /// Closes all descriptors that a reader does not need: only maps and perf events stay. A process that has no link and no
    /// program cannot keep anything attached.
    #[must_use]
    pub fn for_reader(mut self) -> Exported {
        self.items.retain(|(role, _)| matches!(role, FdRole::Map { .. } | FdRole::PerfEvent { .. }));
        self
    }

    /// Describes the descriptors as one line of JSON: the role of each, in order.
    pub fn description(&self) -> String {
        let fds = self.items.iter().map(|(role, _)| role.to_value()).collect();
        compact(&members([("fds", fds), ("object", format!("{:016x}", self.object).into())]))
    }

    /// Puts a description and its descriptors together again.
    ///
    /// # Errors
    ///
    /// [`Status::Inval`] if `description` is malformed or describes another number of descriptors.
    ///
    /// ```
    /// use eunomia::Status;
    /// use eunomia::vm::Exported;
    ///
    /// let error = Exported::from_parts(r#"{"fds":[{"role":"generation"}],"object":"0"}"#, Vec::new()).unwrap_err();
    /// assert_eq!(error.status(), Status::Inval);
    /// ```
    pub fn from_parts(description: &str, fds: Vec<OwnedFd>) -> Result<Exported> {
        let bad = |text: String| Error::new(Status::Inval, text).at("description of exported descriptors");
        let value: Value = serde_json::from_slice(description.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let object = value["object"].as_str().and_then(|text| u64::from_str_radix(text, 16).ok());
        let object = object.ok_or_else(|| bad("object: expected a number in hexadecimal digits".into()))?;
        let roles = value["fds"].as_array().ok_or_else(|| bad("fds: expected an array".into()))?;
        if roles.len() != fds.len() {
            return Err(bad(format!("it has {} descriptors, but {} were passed", roles.len(), fds.len())));
        }
        let role = |(index, value)| {
            FdRole::from_value(value).ok_or_else(|| bad(format!("fds[{index}]: not a role")))
        };
        let roles = roles.iter().enumerate().map(role).collect::<Result<Vec<_>>>()?;
        Ok(Exported { object, items: roles.into_iter().zip(fds).collect() })
    }
}

impl FdRole {
    fn to_value(&self) -> Value {
        let (role, key, name) = match self {
            FdRole::Map { name } => ("map", "name", name),
            FdRole::Program { name } => ("program", "name", name),
            FdRole::Dispatcher { program } => ("dispatcher", "program", program),
            FdRole::Slots { program } => ("slots", "program", program),
            FdRole::Link { program } => ("link", "program", program),
            FdRole::PerfEvent { map, .. } => ("perf_event", "map", map),
            FdRole::Generation => return members([("role", "generation".into())]),
        };
        let mut value = members([("role", role.into()), (key, (**name).into())]);
        if let (FdRole::PerfEvent { cpu, pages, .. }, Some(object)) = (self, value.as_object_mut()) {
            for (key, number) in [("cpu", *cpu), ("pages", *pages)] {
                object.insert(key.to_owned(), number.into());
            }
        }
        value
    }

    fn from_value(value: &Value) -> Option<FdRole> {
        let number = |key: &str| value[key].as_u64().and_then(|number| u32::try_from(number).ok());
        let role = value["role"].as_str()?;
        let key = match role {
            "generation" => return Some(FdRole::Generation),
            "map" | "program" => "name",
            "perf_event" => "map",
            _ => "program",
        };
        let name = value[key].as_str()?.to_owned();
        Some(match role {
            "map" => FdRole::Map { name },
            "program" => FdRole::Program { name },
            "dispatcher" => FdRole::Dispatcher { program: name },
            "slots" => FdRole::Slots { program: name },
            "link" => FdRole::Link { program: name },
            "perf_event" => FdRole::PerfEvent {
                map: name,
                cpu: number("cpu").filter(|cpu| i32::try_from(*cpu).is_ok())?,
                pages: number("pages").filter(|pages| pages.is_power_of_two())?,
            },
            _ => return None,
        })
    }
}

/// A number that differs for different objects, the hash FNV-1a. It detects mistakes, not attacks.
fn identify(object: &[u8]) -> u64 {
    object
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::{Exported, FdRole};

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let name = || "a \"name\"".to_owned();
        let roles = [
            FdRole::Map { name: name() },
            FdRole::PerfEvent { map: name(), cpu: 3, pages: 64 },
            FdRole::Program { name: name() },
            FdRole::Dispatcher { program: name() },
            FdRole::Slots { program: name() },
            FdRole::Link { program: name() },
            FdRole::Generation,
        ];
        let fd = || std::fs::File::open("/dev/null").expect("a descriptor").into();
        let items = roles.into_iter().map(|role| (role, fd())).collect();
        let exported = Exported { object: u64::MAX, items };
        let text = exported.description();
        let again = Exported::from_parts(&text, exported.items.iter().map(|_| fd()).collect()).expect("read");
        assert_eq!(again.description(), text);
        assert_eq!(again.items().map(|(role, _)| role.clone()).collect::<Vec<_>>().len(), 7);
        assert_eq!(again.for_reader().items().len(), 2);
    }

    #[test]
    fn wrong_descriptions_are_refused() {
        for text in [
            "",
            "[]",
            r#"{"object":"x","fds":[]}"#,
            r#"{"object":"1"}"#,
            r#"{"object":"1","fds":[{"role":"map","name":"m"}]}"#,
            r#"{"object":"1","fds":{}}"#,
        ] {
            assert!(Exported::from_parts(text, Vec::new()).is_err(), "{text}");
        }
        for role in [
            r#"{"role":"perf_event","map":"m","cpu":0,"pages":3}"#,
            r#"{"role":"perf_event","map":"m","cpu":4294967295,"pages":4}"#,
            r#"{"role":"map"}"#,
            r#"{"role":"other"}"#,
            "1",
        ] {
            let fd = std::fs::File::open("/dev/null").expect("a descriptor").into();
            let text = format!(r#"{{"object":"1","fds":[{role}]}}"#);
            assert!(Exported::from_parts(&text, vec![fd]).is_err(), "{text}");
        }
    }
}
