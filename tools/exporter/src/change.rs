//! Changes of the configuration while programs run: everything is checked first, then exchanged.

use std::sync::{Arc, TryLockError};

use eunomia::{Kind, Options, Vm};
use eunomia_agent::loader::protocol::Request;
use serde_saphyr::Spanned;

use crate::config::{File, Problem, Program as Wanted};
use crate::engine::{Engine, Slot};
use crate::package;
use crate::program::Program;

/// What a new configuration has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Programs that were started.
    pub started: usize,
    /// Programs that were stopped.
    pub stopped: usize,
    /// Programs whose package was replaced.
    pub replaced: usize,
    /// Programs that keep running; their metrics may have changed.
    pub kept: usize,
}

/// What happens to a program.
enum Step {
    /// Its metrics are exchanged.
    Keep(Arc<Slot>, Program),
    /// Its package is replaced.
    Replace(Arc<Slot>, Spanned<Wanted>, Arc<[u8]>),
    /// It is started.
    Start(Slot),
}

impl Engine {
    /// Starts, stops and replaces programs so that those of the file run. Programs of an earlier file that it
    /// lacks are stopped. If anything in the file is wrong, nothing changes.
    pub fn apply(self: &Arc<Engine>, file: File) -> Result<Changes, Problem> {
        let _turn = match self.change.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let text = "another change is in progress; try again".to_owned();
                return Err(Problem { line: 0, column: 0, text });
            }
            turn => turn,
        };
        let running: Vec<Arc<Slot>> = self.list().into_iter().filter(|slot| slot.is_configured).collect();
        let mut steps = Vec::new();
        for program in file.programs {
            match self.step(program, &running) {
                Ok(step) => steps.push(step),
                Err(problem) => {
                    self.give_up(steps);
                    return Err(problem);
                }
            }
        }
        let changes = self.carry_out(steps, running);
        self.pusher.set(file.otlp.map(|otlp| otlp.value));
        changes
    }

    /// Decides what happens to a program, and checks whether it can. A new one is started.
    fn step(&self, wanted: Spanned<Wanted>, running: &[Arc<Slot>]) -> Result<Step, Problem> {
        let failed = |why: &dyn std::fmt::Display| {
            Problem::at(wanted.referenced, format_args!("program {:?}: {why}", wanted.value.name))
        };
        let data: Arc<[u8]> = wanted.value.package().map_err(|why| failed(&why))?.into();
        let slot = running.iter().find(|slot| slot.name == wanted.value.name);
        let is_alike = |slot: &&Arc<Slot>| {
            let program = slot.program();
            let known = &program.config.value;
            known.args == wanted.value.args && known.variables == wanted.value.variables
        };
        let Some(slot) = slot.filter(|slot| is_alike(slot) && slot.failure().is_none()) else {
            return self.begin(wanted, data, true).map(Step::Start);
        };
        let (vm, package) = {
            let program = slot.program();
            (Arc::clone(&program.vm), Arc::clone(&program.package))
        };
        if package == data {
            return Ok(Step::Keep(Arc::clone(slot), Program::new(wanted, data, vm)?));
        }
        let plan = Request::Plan {
            task: slot.id + 1,
            package: data.to_vec(),
            args: wanted.value.args.clone(),
            variables: wanted.value.variables(),
            origin: wanted.value.origin(),
        };
        let plan = self.client.text(&plan).map_err(|error| failed(&error.message))?;
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap_or_default();
        match plan["refused"].as_str().or(plan["refused"]["message"].as_str()) {
            Some(why) => Err(failed(&why)),
            None => Ok(Step::Replace(Arc::clone(slot), wanted, data)),
        }
    }

    /// Stops what was started for a configuration that is not used.
    fn give_up(&self, steps: Vec<Step>) {
        for step in steps {
            if let Step::Start(slot) = step {
                let _ = self.client.run(&Request::Unload { task: slot.id + 1 });
            }
        }
    }

    fn carry_out(&self, steps: Vec<Step>, running: Vec<Arc<Slot>>) -> Result<Changes, Problem> {
        let mut changes = Changes::default();
        let (mut list, mut failed) = (Vec::new(), None);
        for step in steps {
            match step {
                Step::Keep(slot, program) => {
                    exchange(&slot, program);
                    changes.kept += 1;
                    list.push(slot);
                }
                Step::Replace(slot, wanted, data) => {
                    match self.replace(&slot, wanted, data) {
                        Ok(()) => changes.replaced += 1,
                        // It was checked, so this is rare. The old version keeps running.
                        Err(problem) => failed = Some(problem),
                    }
                    list.push(slot);
                }
                Step::Start(slot) => {
                    changes.started += 1;
                    list.push(Arc::new(slot));
                }
            }
        }
        for old in running.iter().filter(|old| !list.iter().any(|slot| slot.id == old.id)) {
            let _ = self.client.run(&Request::Unload { task: old.id + 1 });
            changes.stopped += 1;
        }
        self.set(list);
        failed.map_or(Ok(changes), Err)
    }

    /// Replaces the package of a program while its events flow.
    fn replace(&self, slot: &Slot, wanted: Spanned<Wanted>, data: Arc<[u8]>) -> Result<(), Problem> {
        let failed = |why: &str| {
            Problem::at(wanted.referenced, format_args!("program {:?}: {why}", wanted.value.name))
        };
        let readable = package::without_sampling(&data).map_err(|error| failed(error.message()))?;
        let (task, origin) = (slot.id + 1, wanted.value.origin());
        let exported = self.client.load(&Request::Replace { task, package: data.to_vec(), origin });
        let exported = exported.map_err(|error| failed(&error.message))?;
        // Events wait until the metrics fit the version that has sent them.
        let mut program = slot.program();
        let vm = Arc::clone(&program.vm);
        if let Err(error) = vm.adopt(&readable, exported) {
            let _ = self.client.run(&Request::Abort);
            return Err(failed(error.message()));
        }
        let new = Program::new(wanted.clone(), data, Arc::clone(&vm)).and_then(|new| {
            let flipped = self.client.text(&Request::Flip);
            flipped.map(|_| new).map_err(|error| failed(&error.message))
        });
        let new = new.inspect_err(|_| {
            // The loader has aborted it already if it could not switch.
            let _ = self.client.run(&Request::Abort);
            let _ = vm.rollback();
        })?;
        vm.commit().map_err(|error| failed(error.message()))?;
        let now = self.now();
        let next = program.drain(now);
        let old = std::mem::replace(&mut *program, new);
        program.inherit(old);
        program.replay(&next, now);
        Ok(())
    }
}

/// Exchanges the metrics of a program.
pub fn exchange(slot: &Slot, program: Program) {
    let mut current = slot.program();
    let old = std::mem::replace(&mut *current, program);
    current.inherit(old);
}

/// Loads a package into the kernel, checks whether the metrics of a program fit it, and unloads it. Nothing is attached.
pub fn check(wanted: Spanned<Wanted>, data: &[u8]) -> Result<(), Problem> {
    let failed =
        |why: &str| Problem::at(wanted.referenced, format_args!("program {:?}: {why}", wanted.value.name));
    let loaded = || {
        let vm = Vm::new(Options::new().skip_missing_hooks(true))?;
        vm.open(&package::without_sampling(data)?, Kind::Json)?;
        let argv: Vec<&str> =
            ["prog"].into_iter().chain(wanted.value.args.iter().map(String::as_str)).collect();
        vm.args_set(&argv)?;
        for (name, value) in wanted.value.variables() {
            vm.var_set_json(&name, &value)?;
        }
        vm.load()?;
        Ok::<Vm, eunomia::Error>(vm)
    };
    let vm = loaded().map_err(|error| failed(error.message()))?;
    Program::new(wanted.clone(), data.into(), Arc::new(vm)).map(drop)
}
