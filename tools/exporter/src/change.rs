//! Changes of the configuration while programs run: everything is checked first, then exchanged.

use std::sync::{Arc, TryLockError};

use eunomia::{Kind, Options, Vm};
use eunomia_agent::loader::protocol::Request;
use serde_saphyr::Spanned;

use crate::config::{File, Problem, Program as Wanted};
use crate::engine::{Engine, Slot};
use crate::package;
use crate::program::{Former, Program};

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
    pub fn apply(self: &Arc<Engine>, mut file: File) -> Result<Changes, Problem> {
        file.find_packages()?;
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
        let changes = self.carry_out(steps, running)?;
        self.pusher.set(file.otlp.map(|otlp| otlp.value));
        Ok(changes)
    }

    /// Decides what happens to a program, and checks whether it can. A new one is started.
    fn step(&self, wanted: Spanned<Wanted>, running: &[Arc<Slot>]) -> Result<Step, Problem> {
        let failed = |why: &dyn std::fmt::Display| {
            Problem::at(wanted.referenced, format_args!("program {:?}: {why}", wanted.value.name))
        };
        let data = wanted.value.package().map_err(|why| failed(&why))?;
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
            return Ok(Step::Keep(Arc::clone(slot), Program::new(wanted, data, vm, &self.pusher.logs)?));
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
            // Another file with the same content.
            None if plan["replace"]["unchanged"] == true => {
                Ok(Step::Keep(Arc::clone(slot), Program::new(wanted, data, vm, &self.pusher.logs)?))
            }
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
        match self.replace_all(&steps) {
            Ok(count) => changes.replaced = count,
            Err(problem) => {
                self.give_up(steps);
                return Err(problem);
            }
        }
        // Nothing fails from here on.
        let mut list = Vec::new();
        for step in steps {
            match step {
                Step::Keep(slot, program) => {
                    exchange(&slot, program);
                    changes.kept += 1;
                    list.push(slot);
                }
                Step::Replace(slot, ..) => list.push(slot),
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
        Ok(changes)
    }

    /// Replaces packages, all or none. Returns their number. A package whose running version cannot be kept
    /// comes last, because there is no way back after that.
    fn replace_all(&self, steps: &[Step]) -> Result<usize, Problem> {
        let (mut done, mut last, mut count) = (Vec::new(), Vec::new(), 0);
        for step in steps {
            let Step::Replace(slot, wanted, data) = step else { continue };
            match self.replace(slot, wanted, data, true) {
                Ok(former) => done.push((slot, former)),
                Err(Refused::NotKept) => last.push((slot, wanted, data)),
                Err(Refused::Failed(problem)) => {
                    self.roll_back(done);
                    return Err(problem);
                }
            }
        }
        for (slot, wanted, data) in last {
            match self.replace(slot, wanted, data, false) {
                Ok(_) => count += 1,
                Err(refused) => {
                    self.roll_back(done);
                    return Err(refused.problem(wanted));
                }
            }
        }
        for (slot, _) in &done {
            if let Err(error) = self.client.run(&Request::Commit { task: slot.id + 1 }) {
                crate::say(format_args!(
                    "program {:?}: its earlier version stays in memory: {}",
                    slot.name, error.message
                ));
            }
        }
        Ok(count + done.len())
    }

    /// Returns to the versions that ran before.
    fn roll_back(&self, done: Vec<(&Arc<Slot>, Before)>) {
        for (slot, before) in done.into_iter().rev() {
            let Before { wanted, data, former } = before;
            let request = Request::Rollback { task: slot.id + 1 };
            if let Err(refused) = self.switch(slot, &request, &wanted, &data, Some(former)) {
                let why = refused.problem(&wanted).text;
                crate::say(format_args!("the new version stays, although others were not replaced: {why}"));
            }
        }
    }

    /// Replaces the package of a program while its events flow. If `keeps_old`, the running version is kept
    /// until commit or rollback.
    fn replace(
        &self,
        slot: &Slot,
        wanted: &Spanned<Wanted>,
        data: &Arc<[u8]>,
        keeps_old: bool,
    ) -> Result<Before, Refused> {
        let (task, origin) = (slot.id + 1, wanted.value.origin());
        let request = Request::Replace { task, package: data.to_vec(), origin, keeps_old };
        self.switch(slot, &request, wanted, data, None)
    }

    /// Makes a program run another version, which `request` prepares. `former` is what that version has counted before. Returns
    /// what ran until now.
    fn switch(
        &self,
        slot: &Slot,
        request: &Request,
        wanted: &Spanned<Wanted>,
        data: &Arc<[u8]>,
        former: Option<Former>,
    ) -> Result<Before, Refused> {
        let failed = |why: &str| Refused::Failed(problem(wanted, why));
        let readable = package::without_sampling(data).map_err(|error| failed(error.message()))?;
        let exported = self.client.load(request).map_err(|error| match error.status {
            "unsupported" if matches!(request, Request::Replace { keeps_old: true, .. }) => Refused::NotKept,
            _ => failed(&error.message),
        })?;
        // Events wait until the metrics fit the version that has sent them.
        let mut program = slot.program();
        let vm = Arc::clone(&program.vm);
        if let Err(error) = vm.adopt(&readable, exported) {
            let _ = self.client.run(&Request::Abort);
            return Err(failed(error.message()));
        }
        let new = Program::new(wanted.clone(), Arc::clone(data), Arc::clone(&vm), &self.pusher.logs);
        let new = new.map_err(Refused::Failed).and_then(|new| {
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
        let (wanted, data) = (old.config.clone(), Arc::clone(&old.package));
        let former = program.inherit(old, former);
        program.replay(&next, now);
        Ok(Before { wanted, data, former })
    }
}

/// The version of a program before a replace.
struct Before {
    wanted: Spanned<Wanted>,
    data: Arc<[u8]>,
    former: Former,
}

/// Why a package was not replaced.
enum Refused {
    /// The running version cannot be kept, so there would be no way back to it.
    NotKept,
    /// It failed.
    Failed(Problem),
}

impl Refused {
    fn problem(self, wanted: &Spanned<Wanted>) -> Problem {
        match self {
            Refused::Failed(problem) => problem,
            Refused::NotKept => problem(wanted, "its running version cannot be kept"),
        }
    }
}

/// A problem of a program.
fn problem(wanted: &Spanned<Wanted>, why: &str) -> Problem {
    Problem::at(wanted.referenced, format_args!("program {:?}: {why}", wanted.value.name))
}

/// Exchanges the metrics of a program.
pub fn exchange(slot: &Slot, program: Program) {
    let mut current = slot.program();
    let old = std::mem::replace(&mut *current, program);
    let _ = current.inherit(old, None);
}

/// Loads a package into the kernel, checks whether the metrics of a program fit it, and unloads it. Nothing is attached.
pub fn check(wanted: Spanned<Wanted>) -> Result<(), Problem> {
    let failed = |why: &str| problem(&wanted, why);
    let data = wanted.value.package().map_err(|why| failed(&why))?;
    let loaded = || {
        let vm = Vm::new(Options::new().skip_missing_hooks(true))?;
        vm.open(&package::without_sampling(&data)?, Kind::Json)?;
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
    Program::new(wanted.clone(), data, Arc::new(vm), &Arc::default()).map(drop)
}
