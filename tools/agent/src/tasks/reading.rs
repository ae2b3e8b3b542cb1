//! Loads packages and reads their events.

use std::os::fd::AsFd;
use std::sync::Arc;

use eunomia::vm::{Exported, FdRole};
use eunomia::{Level, Options, Vm};

use super::{Numbers, Tasks, no_log};
use crate::archive;
use crate::error::Result;
use crate::loader::protocol::{Alone, Request};
use crate::log::{Content, LineKind};
use crate::task::Task;

impl Tasks {
    /// Loads and attaches a package, and reads its events.
    pub(super) fn attach(&self, task: &Task, package: &[u8], numbers: &mut Numbers) -> Result<()> {
        let exported = self.loader.load(&self.request(task, package, false))?;
        self.read_events(task, package, exported, numbers).inspect_err(|_| {
            // The error of the import is reported, not that of the unload.
            let _ = self.loader.run(&Request::Unload { task: task.id });
        })
    }

    /// Makes the loader take over the programs of a package that an earlier loader has left attached, and reads their events.
    pub(super) fn recover(&self, task: &Task, package: &[u8], numbers: &mut Numbers) -> Result<()> {
        let exported = self.loader.load(&self.request(task, package, true))?;
        // Nobody could write to a perf buffer in the meantime.
        if exported.items().any(|(role, _)| matches!(role, FdRole::PerfEvent { .. })) {
            note_gap(task);
        }
        self.read_events(task, package, exported, numbers)
    }

    fn request(&self, task: &Task, package: &[u8], recover: bool) -> Request {
        let variables = task.spec.variables.iter().map(|(name, value)| (name.clone(), value.to_string()));
        Request::Load {
            recover,
            task: task.id,
            package: package.to_vec(),
            args: task.spec.args.clone(),
            variables: variables.collect(),
            wanted: task.spec.identity(),
            alone: Alone { detach: task.spec.detaches_alone, after: self.detach_after },
            limits: task.spec.limits,
            origin: task.with(|current| current.origin.clone()),
        }
    }

    /// Reads the events of a package that is loaded.
    pub(super) fn read_events(
        &self,
        task: &Task,
        package: &[u8],
        exported: Exported,
        numbers: &mut Numbers,
    ) -> Result<()> {
        let vm = import(task, package, exported)?;
        // The loader gets the log before the first event is read, because an event that was read exists only in the log.
        let log = task.log.file().map_err(|error| no_log(&error))?;
        self.loader.keep_log(task.id, log.as_fd())?;
        let key = numbers.key();
        self.poller.add(&vm, key, task)?;
        task.with(|current| (current.vm, current.key, current.is_over_budget) = (Some(vm), key, false));
        self.note_budgets();
        Ok(())
    }

    /// Reads the events of a version that was replaced before this server was started.
    pub(super) fn read_last(
        &self,
        task: &Task,
        package: &[u8],
        exported: Exported,
        numbers: &mut Numbers,
    ) -> Result<()> {
        let (vm, key) = (import(task, package, exported)?, numbers.key());
        self.poller.add(&vm, key, task)?;
        self.poller.remove(&vm, key, task.spec.format);
        Ok(())
    }

    /// Reads the events of earlier versions. Returns whether all of them have been read.
    pub(super) fn read_old(&self, task: &Task) -> bool {
        let (vm, key) = task.with(|current| (current.vm.clone(), current.key));
        vm.is_some_and(|vm| self.poller.drain(&vm, key, task.spec.format))
    }

    /// Reads what is left in the buffers, and keeps the counters.
    pub(super) fn stop_reading(&self, task: &Task) {
        let (vm, key) = task.with(|current| (current.vm.clone(), current.key));
        let Some(vm) = vm else { return };
        self.poller.remove(&vm, key, task.spec.format);
        let mut current = task.current();
        current.before = current.before.plus(&vm);
        current.vm = None;
    }
}

fn import(task: &Task, package: &[u8], exported: Exported) -> Result<Arc<Vm>> {
    let (id, name) = (task.id, task.spec.name.clone());
    let messages = Arc::clone(&task.messages);
    let log = move |level: Level, line: &str| {
        say!("task {id} ({name}): {level:?}: {line}");
        messages.add(level, line);
    };
    let package = archive::open(package)?;
    Ok(Arc::new(Vm::import(&package, exported, Options::new().log(log))?))
}

/// Adds a line to the log that events may be missing: the programs were not attached, or their events are gone.
pub(super) fn note_gap(task: &Task) {
    if task.log.next() > 0 {
        task.log.push(LineKind::Unknown, "", Content::text(b"loader"));
        task.log.flush();
    }
}
