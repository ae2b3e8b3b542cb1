//! The descriptors of a loaded package with their roles, and their description as text, to send them to another process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use crate::error::{Error, Result, Status};
use crate::os;
use crate::package::Package;

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
    /// A role that this version of the library does not know.
    Other {
        /// Its line of the description.
        line: String,
    },
}

/// The descriptors of a package for another process, see [`Vm::export`](crate::Vm::export). It owns them.
///
/// To send it, pass [`description`](Exported::description) as text and [`fds`](Exported::fds) in the same order, for
/// example with `SCM_RIGHTS`. One message can have at most 253 descriptors. The receiver calls
/// [`from_parts`](Exported::from_parts).
#[derive(Debug)]
pub struct Exported {
    /// The first line of the description, which identifies the object of the package.
    pub(super) object: String,
    /// The other lines, with their descriptors.
    pub(super) items: Vec<(String, OwnedFd)>,
}

impl Exported {
    /// Copies the descriptors of a package. Each has its line.
    pub(super) fn copy(package: &Package, list: Vec<(String, RawFd)>) -> Result<Exported> {
        let mut exported = Exported { object: identify(&package.object), items: Vec::new() };
        for (line, fd) in list {
            let failed = |e: os::Errno| Error::sys(Status::System, e.0, format_args!("export: {e}"));
            exported.items.push((line, os::duplicate(fd).map_err(failed)?));
        }
        Ok(exported)
    }

    /// Whether these are descriptors of a package with the same object.
    pub(super) fn is_of(&self, package: &Package) -> bool {
        self.object == identify(&package.object)
    }

    /// The lines with their descriptors.
    pub(super) fn into_items(self) -> Vec<(String, OwnedFd)> {
        self.items
    }

    /// The descriptors, which the caller owns then.
    #[cfg_attr(not(feature = "capi"), allow(dead_code, reason = "only the C interface passes them on"))]
    pub(crate) fn into_fds(self) -> impl Iterator<Item = OwnedFd> {
        self.items.into_iter().map(|(_, fd)| fd)
    }

    /// The descriptors with their roles.
    pub fn items(&self) -> impl ExactSizeIterator<Item = (FdRole, BorrowedFd<'_>)> {
        self.items.iter().map(|(line, fd)| (FdRole::of(line), fd.as_fd()))
    }

    /// The descriptors, in the order of the description.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.items.iter().map(|(_, fd)| fd.as_fd()).collect()
    }

    /// Closes all descriptors that a reader does not need: only maps and perf events stay. A process that has no link and no
    /// program cannot keep anything attached.
    #[must_use]
    pub fn for_reader(mut self) -> Exported {
        self.items.retain(|(line, _)| line.starts_with("map ") || line.starts_with("perf_event "));
        self
    }

    /// Describes the descriptors as text. The first line identifies the object of the package. Then follows one line per descriptor,
    /// in order, with its role: `map NAME`, `perf_event CPU PAGES MAP`, `program NAME`, `generation`, and `link`, `dispatcher`
    /// or `slots` with the name of the program.
    pub fn description(&self) -> String {
        let mut text = self.object.clone();
        for (line, _) in &self.items {
            text.push('\n');
            text += line;
        }
        text
    }

    /// Puts a description and its descriptors together again.
    ///
    /// # Errors
    ///
    /// [`Status::Inval`] if `description` describes another number of descriptors.
    ///
    /// ```
    /// use eunomia::Status;
    /// use eunomia::vm::Exported;
    ///
    /// let error = Exported::from_parts("object 0\ngeneration", Vec::new()).unwrap_err();
    /// assert_eq!(error.status(), Status::Inval);
    /// ```
    pub fn from_parts(description: &str, fds: Vec<OwnedFd>) -> Result<Exported> {
        let (count, mut fds) = (fds.len(), fds.into_iter());
        Exported::read(description, count, &mut |_| {
            fds.next().ok_or_else(|| Error::new(Status::Internal, ""))
        })
    }

    /// Like `from_parts`, with a function that returns each of the `count` descriptors by its index.
    pub(crate) fn read(
        description: &str,
        count: usize,
        fd: &mut dyn FnMut(usize) -> Result<OwnedFd>,
    ) -> Result<Exported> {
        let mut lines = description.split('\n');
        let object = lines.next().unwrap_or_default().to_owned();
        let described = lines.clone().count();
        if described != count {
            let text = format_args!("the description has {described} descriptors, but {count} were passed");
            return Err(Error::new(Status::Inval, text));
        }
        let mut exported = Exported { object, items: Vec::new() };
        for (index, line) in lines.enumerate() {
            exported.items.push((line.to_owned(), fd(index)?));
        }
        Ok(exported)
    }
}

/// Reads the line of a perf event after its role: the CPU, the pages of its buffer, and the name of the map.
pub(super) fn perf_event(line: &str) -> Option<(i32, u32, &str)> {
    let (cpu, rest) = line.split_once(' ')?;
    let (pages, map) = rest.split_once(' ')?;
    let cpu = cpu.parse::<u32>().ok().and_then(|cpu| i32::try_from(cpu).ok())?;
    let pages = pages.parse().ok().filter(|pages: &u32| pages.is_power_of_two())?;
    Some((cpu, pages, map))
}

impl FdRole {
    /// Reads a line of a description.
    fn of(line: &str) -> FdRole {
        let (role, rest) = line.split_once(' ').unwrap_or((line, ""));
        let name = || rest.to_owned();
        match role {
            "map" => FdRole::Map { name: name() },
            "program" => FdRole::Program { name: name() },
            "dispatcher" => FdRole::Dispatcher { program: name() },
            "slots" => FdRole::Slots { program: name() },
            "link" => FdRole::Link { program: name() },
            "generation" => FdRole::Generation,
            "perf_event" => match perf_event(rest) {
                Some((cpu, pages, map)) => FdRole::PerfEvent { map: map.to_owned(), cpu: cpu as u32, pages },
                None => FdRole::Other { line: line.to_owned() },
            },
            _ => FdRole::Other { line: line.to_owned() },
        }
    }
}

/// Returns the line that identifies an object, by its FNV-1a hash. It detects mistakes, not attacks.
fn identify(object: &[u8]) -> String {
    let hash = object
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("object {hash:016x}")
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::{Exported, FdRole};

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").expect("a descriptor").into()
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let lines = [
            "map a.b",
            "perf_event 3 64 a.b",
            "program p",
            "dispatcher p",
            "slots p",
            "link p",
            "generation",
        ];
        let items = lines.iter().map(|line| ((*line).to_owned(), null())).collect();
        let exported = Exported { object: "object 0".into(), items };
        let text = exported.description();
        assert_eq!(text, "object 0\n".to_owned() + &lines.join("\n"));
        let again = Exported::from_parts(&text, lines.iter().map(|_| null()).collect()).expect("read");
        assert_eq!(again.description(), text);
        let (name, program) = (String::from("a.b"), || String::from("p"));
        let expected = [
            FdRole::Map { name: name.clone() },
            FdRole::PerfEvent { map: name, cpu: 3, pages: 64 },
            FdRole::Program { name: program() },
            FdRole::Dispatcher { program: program() },
            FdRole::Slots { program: program() },
            FdRole::Link { program: program() },
            FdRole::Generation,
        ];
        assert!(again.items().map(|(role, _)| role).eq(expected));
        assert_eq!(again.for_reader().description(), "object 0\nmap a.b\nperf_event 3 64 a.b");
    }

    #[test]
    fn a_description_of_another_number_of_descriptors_is_refused() {
        for text in ["object 0", "object 0\nmap a\nmap b", ""] {
            let error = Exported::from_parts(text, vec![null()]).map(drop).expect_err(text);
            assert!(error.to_string().contains("but 1 were passed"), "{error}");
        }
        assert_eq!(Exported::from_parts("", Vec::new()).expect("of no package").items().len(), 0);
    }

    #[test]
    fn unknown_roles_are_kept() {
        for line in [
            "",
            "perf_event 0 3 m",
            "perf_event 4294967295 4 m",
            "perf_event 0 0 m",
            "perf_event 0 4",
            "other a",
        ] {
            assert_eq!(FdRole::of(line), FdRole::Other { line: line.to_owned() });
        }
    }
}
