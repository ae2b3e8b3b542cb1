//! The tasks of the loader.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use eunomia::vm::{Exported, LoadedCode, Prepared, ReplaceOptions};
use eunomia::{Kind, Level, Options, Status, Vm};

use super::budget::Meter;
use super::guard::{Case, Guard};
use super::pins::NewPins;
use super::plan::plan;
use super::protocol::{Alone, Failure, Listed, MAX_DESCRIPTORS, MAX_MESSAGE, Origin};
use super::say;
use super::survival::{self, TaskPins, Version};
use crate::archive;
use crate::limits::Limits;
use crate::spec::digest;

/// Maximum number of tasks.
const MAX_TASKS: usize = 256;
/// The name of the program in messages about its arguments.
const PROGRAM: &str = "prog";
/// The report about a package that runs already.
pub const UNCHANGED: &str = r#"{"unchanged":true}"#;
type Result<T> = std::result::Result<T, Failure>;

/// Asks the server whether to switch to a version with these descriptors. The error means that it has gone.
pub type Ask<'a> = dyn FnMut(Result<&Exported>) -> io::Result<bool> + 'a;
/// The result of a switch: the report as JSON.
pub type Report = Result<String>;
/// The result of [`Tasks::switchable`].
type Switchable<'a> =
    (&'a mut Loaded, &'a mut String, &'a mut u64, Limits, (&'a Option<TaskPins>, &'a String));

/// All tasks, and the directory for their pins.
#[derive(Default)]
pub struct Tasks(pub(super) BTreeMap<u64, Running>, Option<PathBuf>);

/// One task.
pub(super) struct Running {
    /// `None` if it was unloaded because there was no server, or if it is pinned and not taken over yet.
    pub(super) loaded: Option<Loaded>,
    /// The pins of an earlier loader, until they are taken over.
    pinned: Option<PathBuf>,
    /// Dropped after the package, whose own pins are then gone.
    pins: Option<TaskPins>,
    /// The memory of the log that the server writes.
    pub(super) log: Option<OwnedFd>,
    /// The digest of the package that runs.
    digest: String,
    wanted: String,
    replaced: u64,
    pub(super) is_paused: bool,
    /// The limits of the request that has started it.
    pub(super) limits: Limits,
}

pub(super) struct Loaded {
    pub(super) vm: Vm,
    /// The descriptors for the next server that reads its events.
    exported: Exported,
    /// Earlier versions with their digests. Each is kept until all its events have been read.
    old: Vec<(String, Exported)>,
    /// The version to which a rollback returns.
    kept: Option<Kept>,
    /// The treatment of its programs while there is no server.
    alone: Alone,
    /// The kernel memory of the package with full maps, in bytes.
    memory: u64,
    /// Whether its programs can drop, deny or rewrite something.
    pub(super) interferes: bool,
    /// Whether an earlier loader has loaded it, so that it cannot be detached and attached again.
    is_recovered: bool,
    pub(super) meter: Meter,
}

/// A version that was replaced and still exists.
struct Kept {
    digest: String,
    exported: Exported,
    memory: u64,
    interferes: bool,
    is_recovered: bool,
    /// The pins of the version that has replaced it.
    pins: NewPins,
}

/// A package to load.
pub struct Load<'a> {
    pub task: u64,
    pub package: &'a [u8],
    pub args: &'a [String],
    pub variables: &'a [(String, String)],
    pub wanted: String,
    pub alone: Alone,
    pub limits: Limits,
    pub origin: &'a Origin,
}

impl Tasks {
    /// The tasks that an earlier loader has pinned in this directory.
    pub fn found_in(folder: Option<PathBuf>) -> Tasks {
        let entry = |(task, pins, version): (u64, TaskPins, Version)| {
            let Version { path, digest, wanted, replaced } = version;
            let (pins, pinned, limits) = (Some(pins), Some(path), Limits::default());
            let (loaded, log, is_paused) = (None, None, false);
            (task, Running { loaded, pinned, pins, log, digest, wanted, replaced, is_paused, limits })
        };
        let found = folder.as_deref().map(survival::find).unwrap_or_default();
        Tasks(found.into_iter().map(entry).collect(), folder)
    }

    /// Loads and attaches a package.
    pub fn load(&mut self, guard: &Guard, load: Load) -> Result<&Exported> {
        let held = self.0.get(&load.task);
        if held.is_some_and(|held| held.loaded.is_some()) || held.is_none() && self.0.len() >= MAX_TASKS {
            let text = format!("task {} runs already, or there are {MAX_TASKS} tasks", load.task);
            return Err(Failure::new(Status::State, text));
        }
        guard.policy().check_count(self.0.values().filter(|other| other.loaded.is_some()).count())?;
        let others = self.memory_without(load.task);
        let mut case = guard.case("load", load.task, load.package, load.origin);
        let attached = attach(guard, &mut case, &load, others);
        let (vm, memory, interferes) = attached.map_err(|failure| case.refuse(failure))?;
        // What an earlier loader has pinned for this task goes with its entry.
        drop(self.0.remove(&load.task));
        let pins = self.1.as_ref().map(|folder| TaskPins::new(folder, load.task));
        let loaded = Loaded::new(&load, (vm, memory, interferes), false)?;
        let digest = digest(load.package);
        if let (Some(pins), None) = (&pins, loaded.detaches_after()) {
            pins.add((&digest, &load.wanted, 0), |path| loaded.vm.pin(path));
        }
        self.insert(guard, load, loaded, pins, digest, 0)
    }

    /// Takes over a task that an earlier loader has pinned. If this fails, its programs are detached.
    pub fn recover(&mut self, guard: &Guard, load: Load) -> Result<&Exported> {
        let others = self.memory_without(load.task);
        let is_pinned = self.0.get(&load.task).is_some_and(|running| running.pinned.is_some());
        let found = if is_pinned { self.0.remove(&load.task) } else { None };
        let Some(Running { pinned: Some(path), pins, digest: pinned, wanted, replaced, .. }) = found else {
            return Err(none(load.task));
        };
        let digest = digest(load.package);
        if (&digest, &load.wanted) != (&pinned, &wanted) {
            return Err(Failure::new(Status::State, "another package or other arguments are pinned"));
        }
        let mut case = guard.case("recover", load.task, load.package, load.origin);
        let recovered = take_over(guard, &mut case, &load, others, &path);
        let loaded = Loaded::new(&load, recovered.map_err(|failure| case.refuse(failure))?, true)?;
        self.insert(guard, load, loaded, pins, digest, replaced)
    }

    /// Adds a task, and returns its descriptors.
    fn insert(
        &mut self,
        guard: &Guard,
        load: Load,
        loaded: Loaded,
        pins: Option<TaskPins>,
        digest: String,
        replaced: u64,
    ) -> Result<&Exported> {
        let Load { task, wanted, limits, .. } = load;
        let (loaded, pinned) = (Some(loaded), None);
        let running =
            Running { loaded, pinned, pins, log: None, digest, wanted, replaced, is_paused: false, limits };
        self.0.insert(task, running);
        self.begin_metering(guard);
        self.adopt(task, 0)
    }

    /// Prepares a new package, passes its descriptors to `ask`, and switches to it if `ask` returns true. Returns the report. If the
    /// task runs this version already, returns the report at once.
    pub fn replace(
        &mut self,
        guard: &Guard,
        (task, package, origin): (u64, &[u8], &Origin),
        keeps_old: bool,
        ask: &mut Ask,
    ) -> io::Result<Option<Report>> {
        let others = self.memory_without(task);
        let (loaded, current, replaced, limits, (pins, wanted)) = match self.switchable(task) {
            Ok(found) => found,
            Err(failure) => return ask(Err(failure)).map(|_| None),
        };
        let alone = loaded.alone;
        let Loaded { vm, exported, old, kept, memory, interferes, is_recovered, .. } = loaded;
        let mut case = guard.case("replace", task, package, origin);
        let prepared = prepare(vm, &mut case, (package, origin), (others, limits), keeps_old);
        let mut new = match prepared.map_err(|failure| case.refuse(failure)) {
            Ok(Some(new)) => new,
            Ok(None) => return Ok(Some(Ok(UNCHANGED.to_owned()))),
            Err(failure) => return ask(Err(failure)).map(|_| None),
        };
        let digest = digest(package);
        if let (Some(pins), None) = (pins, detaches_after(alone, new.interferes)) {
            pins.add((&digest, wanted, *replaced + 1), |path| new.prepared.pin(path));
        }
        if !ask(Ok(&new.exported))? {
            return Ok(None);
        }
        let report = new.prepared.flip().map_err(Failure::from);
        if report.is_ok() {
            let version = Kept {
                digest: std::mem::replace(current, digest),
                exported: std::mem::replace(exported, new.exported),
                memory: std::mem::replace(memory, new.memory),
                interferes: std::mem::replace(interferes, new.interferes),
                is_recovered: std::mem::take(is_recovered),
                pins: new.pins,
            };
            *replaced += 1;
            match keeps_old {
                true => *kept = Some(version),
                false => old.push(version.settle()),
            }
        }
        Ok(Some(report.map(|report| report.to_json())))
    }

    /// Closes the version that a replace has kept.
    pub fn commit(&mut self, task: u64) -> Result<()> {
        let (Loaded { vm, old, kept, .. }, ..) = self.switchable(task)?;
        vm.commit()?;
        old.extend(kept.take().map(Kept::settle));
        Ok(())
    }

    /// Passes the descriptors of the version that a replace has kept to `ask`, and returns to it if `ask` returns true.
    pub fn rollback(&mut self, task: u64, ask: &mut Ask) -> io::Result<Option<Report>> {
        let found = self.switchable(task).and_then(|(loaded, current, ..)| {
            let none =
                || Failure::new(Status::State, format_args!("task {task} has no version to return to"));
            loaded.kept.take().map(|version| (version, loaded, current)).ok_or_else(none)
        });
        let (version, loaded, current) = match found {
            Ok(found) => found,
            Err(failure) => return ask(Err(failure)).map(|_| None),
        };
        let Loaded { vm, exported, old, kept, memory, interferes, is_recovered, .. } = loaded;
        let is_wanted = ask(Ok(&version.exported));
        let report = match is_wanted {
            Ok(true) => vm.rollback().map_err(Failure::from),
            other => {
                *kept = Some(version);
                return other.map(|_| None);
            }
        };
        match &report {
            // Dropping its pins removes those of the version that does not run any more.
            Ok(_) => {
                old.push((
                    std::mem::replace(current, version.digest),
                    std::mem::replace(exported, version.exported),
                ));
                (*memory, *interferes) = (version.memory, version.interferes);
                *is_recovered = version.is_recovered;
            }
            Err(_) => *kept = Some(version),
        }
        Ok(Some(report.map(|report| report.to_json())))
    }

    /// A task whose version may change: what is loaded, the digest of its package, how often it was replaced, its limits, and
    /// what its pins need.
    fn switchable(&mut self, task: u64) -> Result<Switchable<'_>> {
        let Running { loaded, digest, replaced, limits, pins, wanted, .. } = find(&mut self.0, task)?;
        let loaded = loaded.as_mut().ok_or_else(|| none(task))?;
        loaded.forget_read();
        loaded.resume();
        Ok((loaded, digest, replaced, *limits, (pins, wanted)))
    }

    /// The descriptors of a package that runs, or of an earlier version.
    pub fn adopt(&self, task: u64, age: u64) -> Result<&Exported> {
        let loaded = self.loaded(task)?;
        let Some(index) = age.checked_sub(1) else { return Ok(&loaded.exported) };
        let old = usize::try_from(index).ok().and_then(|index| loaded.old.get(index));
        old.map(|(_, exported)| exported).ok_or_else(|| none(task))
    }

    /// Detaches the programs of a task, or attaches them again.
    pub fn pause(&mut self, task: u64, on: bool) -> Result<()> {
        let running = find(&mut self.0, task)?;
        let loaded = running.loaded.as_mut().ok_or_else(|| none(task))?;
        loaded.resume();
        match on {
            // The programs of another process cannot be attached again.
            _ if loaded.is_recovered => loaded.vm.suspend(on)?,
            true => loaded.vm.detach()?,
            false => {
                loaded.vm.attach()?;
                if let (Some(pins), None) = (&running.pins, loaded.detaches_after()) {
                    let version = (&*running.digest, &*running.wanted, running.replaced);
                    pins.add(version, |path| loaded.vm.pin(path));
                }
            }
        }
        running.is_paused = on;
        Ok(())
    }

    /// Detaches and unloads a task.
    pub fn unload(&mut self, task: u64) {
        self.0.remove(&task);
    }

    /// Describes a task as JSON.
    pub fn describe(&self, task: u64) -> Result<String> {
        Ok(self.loaded(task)?.vm.describe()?)
    }

    /// Reports what a start, or a replace of a task, would do.
    pub fn plan(
        &self,
        guard: &Guard,
        (task, package, origin): (u64, &[u8], &Origin),
        args: &[String],
        variables: &[(String, String)],
    ) -> Result<String> {
        let mut case = guard.case("plan", task, package, origin);
        case.admit(package, origin).map_err(|failure| case.refuse(failure))?;
        let running = (task != 0).then(|| Ok::<_, Failure>(&self.loaded(task)?.vm)).transpose()?;
        let package = &*archive::open(package)?;
        let limits = self.0.get(&task).map_or(Limits::default(), |running| running.limits);
        let others = self.memory_without(task);
        let mut judge = |code: &LoadedCode| case.judge(package, code, (others, &limits)).map(drop);
        let planned = plan(running, package, (args, variables), &mut judge);
        planned.map_err(|failure| case.refuse(failure))
    }

    /// All tasks.
    pub fn list(&mut self) -> Vec<Listed> {
        let one = |(task, running): (&u64, &mut Running)| {
            let old = running.loaded.as_mut().map(|loaded| {
                loaded.forget_read();
                loaded.old.iter().map(|(digest, _)| digest.clone()).collect()
            });
            Listed {
                task: *task,
                digest: running.digest.clone(),
                wanted: running.wanted.clone(),
                is_loaded: old.is_some(),
                is_pinned: running.pinned.is_some(),
                old: old.unwrap_or_default(),
                replaced: running.replaced,
                is_paused: running.is_paused,
            }
        };
        self.0.iter_mut().map(one).collect()
    }

    /// Keeps the log of a task.
    pub fn keep_log(&mut self, task: u64, log: OwnedFd) -> Result<()> {
        let running = find(&mut self.0, task)?;
        if let Some(loaded) = &mut running.loaded {
            loaded.begin_with_log(&log);
        }
        running.log = Some(log);
        Ok(())
    }

    /// The log of a task.
    pub fn log(&self, task: u64) -> Result<Option<BorrowedFd<'_>>> {
        let running = self.0.get(&task).ok_or_else(|| none(task))?;
        Ok(running.log.as_ref().map(AsFd::as_fd))
    }

    /// Whether nothing is attached.
    pub fn is_idle(&self) -> bool {
        self.0.values().all(|running| running.loaded.is_none() && running.pinned.is_none())
    }

    /// Closes the earlier versions whose events have been read. Returns whether any is left.
    pub fn forget_read(&mut self) -> bool {
        let mut is_left = false;
        for loaded in self.0.values_mut().filter_map(|running| running.loaded.as_mut()) {
            loaded.forget_read();
            is_left |= !loaded.old.is_empty();
        }
        is_left
    }

    /// Unloads the tasks that must not run without a server for that long. Returns the time after which the next one is
    /// due.
    pub fn detach_after(&mut self, alone: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for (task, running) in &mut self.0 {
            match running.loaded.as_ref().and_then(Loaded::detaches_after) {
                Some(after) if after <= alone => {
                    say(format_args!(
                        "task {task} is detached: there has been no server for {} s",
                        alone.as_secs()
                    ));
                    running.loaded = None;
                }
                Some(after) => next = Some(next.map_or(after, |next| next.min(after))),
                None => {}
            }
        }
        next
    }

    /// The kernel memory of the other tasks.
    fn memory_without(&self, task: u64) -> u64 {
        let others = self.0.iter().filter(|(other, _)| **other != task);
        let loaded = others.filter_map(|(_, running)| running.loaded.as_ref());
        let memory = |loaded: &Loaded| {
            loaded.memory.saturating_add(loaded.kept.as_ref().map_or(0, |version| version.memory))
        };
        loaded.fold(0, |sum, loaded| sum.saturating_add(memory(loaded)))
    }

    fn loaded(&self, task: u64) -> Result<&Loaded> {
        self.0.get(&task).and_then(|running| running.loaded.as_ref()).ok_or_else(|| none(task))
    }
}

impl Kept {
    /// The digest and the descriptors, for the next server. The version that has replaced it stays.
    fn settle(self) -> (String, Exported) {
        self.pins.keep();
        (self.digest, self.exported)
    }
}

impl Loaded {
    /// A package that is attached, with its kernel memory and whether its programs interfere.
    fn new(load: &Load, (vm, memory, interferes): (Vm, u64, bool), is_recovered: bool) -> Result<Loaded> {
        let exported = sendable(vm.export()?.for_reader())?;
        let (alone, old, kept, meter) = (load.alone, Vec::new(), None, Meter::default());
        Ok(Loaded { vm, exported, old, kept, alone, memory, interferes, is_recovered, meter })
    }

    /// The time without a server after which the package is unloaded.
    fn detaches_after(&self) -> Option<Duration> {
        detaches_after(self.alone, self.interferes)
    }

    /// Closes earlier versions whose events have all been read.
    fn forget_read(&mut self) {
        if !self.old.is_empty() && self.vm.drained().unwrap_or(false) {
            self.old.clear();
        }
    }
}

/// The time without a server after which programs are unloaded. Such programs are not pinned, because there may never be another
/// loader.
fn detaches_after(alone: Alone, interferes: bool) -> Option<Duration> {
    alone.detach.unwrap_or(interferes).then(|| Duration::from_secs(alone.after))
}

fn find(tasks: &mut BTreeMap<u64, Running>, task: u64) -> Result<&mut Running> {
    tasks.get_mut(&task).ok_or_else(|| none(task))
}

fn none(task: u64) -> Failure {
    Failure::new(Status::NotFound, format_args!("the loader does not run task {task}"))
}

/// Loads a package, judges it and attaches it. Returns it, its kernel memory, and whether it can do more than observe.
fn attach(guard: &Guard, case: &mut Case, load: &Load, others: u64) -> Result<(Vm, u64, bool)> {
    let Load { package, origin, limits, .. } = load;
    guard.check_limits(limits)?;
    case.admit(package, origin)?;
    let package = &*archive::open(package)?;
    let vm = open(guard, package, load, others)?;
    let pins = NewPins::of(&vm)?;
    vm.load().map_err(|error| case.failed(error))?;
    let loaded = vm.loaded_code()?;
    let interferes = case.judge(package, &loaded, (others, limits))?;
    case.allow()?;
    vm.attach()?;
    pins.keep();
    Ok((vm, loaded.kernel_memory, interferes))
}

/// Takes over the programs of a package that an earlier loader has loaded and judged.
fn take_over(
    guard: &Guard,
    case: &mut Case,
    load: &Load,
    others: u64,
    path: &Path,
) -> Result<(Vm, u64, bool)> {
    let vm = open(guard, &archive::open(load.package)?, load, others)?;
    vm.recover(path)?;
    // It may have been throttled. This fails if its programs cannot be suspended.
    let _ = vm.suspend(false);
    let loaded = vm.loaded_code()?;
    let interferes = case.note_recovered(&loaded);
    Ok((vm, loaded.kernel_memory, interferes))
}

/// Opens a package with the settings of a request.
fn open(guard: &Guard, package: &[u8], load: &Load, others: u64) -> Result<Vm> {
    let log = |level: Level, line: &str| say(format_args!("{level:?}: {line}"));
    let options = Options::new().log(log).skip_missing_hooks(true).replaceable(true);
    let vm = Vm::new(options.max_kernel_memory(guard.policy().memory(others)?))?;
    vm.open(package, Kind::Json)?;
    configure(&vm, load.args, load.variables)?;
    Ok(vm)
}

/// Applies the arguments and variables of a request.
pub(super) fn configure(vm: &Vm, args: &[String], variables: &[(String, String)]) -> Result<()> {
    let argv: Vec<&str> = std::iter::once(PROGRAM).chain(args.iter().map(String::as_str)).collect();
    if vm.args_set(&argv)? {
        let text = "args request only the help or the version of the program, so there is nothing to run";
        return Err(Failure::new(Status::Inval, text));
    }
    for (name, value) in variables {
        vm.var_set_json(name, value)?;
    }
    Ok(())
}

/// A version that is prepared.
struct Successor<'a> {
    prepared: Prepared<'a>,
    exported: Exported,
    memory: u64,
    interferes: bool,
    pins: NewPins,
}

/// Prepares a new version of a package and judges it. `None` if this version runs already.
fn prepare<'a>(
    vm: &'a Vm,
    case: &mut Case,
    (package, origin): (&[u8], &Origin),
    (others, limits): (u64, Limits),
    keeps_old: bool,
) -> Result<Option<Successor<'a>>> {
    case.admit(package, origin)?;
    let package = &*archive::open(package)?;
    let pins = NewPins::of_package(package)?;
    let mut options = ReplaceOptions::default();
    options.keep_old = keeps_old;
    let prepared = vm.prepare(package, options);
    let mut prepared = prepared.map_err(|error| case.failed(error))?;
    let Some(loaded) = prepared.loaded_code() else { return Ok(None) };
    let interferes = case.judge(package, &loaded, (others, &limits))?;
    case.allow()?;
    let exported = sendable(prepared.export()?.for_reader())?;
    Ok(Some(Successor { prepared, exported, memory: loaded.kernel_memory, interferes, pins }))
}

/// Refuses a package with more descriptors than fit into a message.
fn sendable(exported: Exported) -> Result<Exported> {
    match exported.items().len() <= MAX_DESCRIPTORS && exported.description().len() < MAX_MESSAGE / 2 {
        true => Ok(exported),
        false => {
            let text =
                format!("too many buffers and maps: they need more than {MAX_DESCRIPTORS} descriptors");
            Err(Failure::new(Status::Unsupported, text))
        }
    }
}
