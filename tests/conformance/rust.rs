//! The Rust runner. It executes the table through the crate, in the process of the driver.

use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use eunomia::types::Type;
use eunomia::vm::{
    Batch, Exported, Group, MapInfo, Prepared, ProgInfo, ProgInput, Records, ReplaceOptions, SourceInfo,
    Stats, WasmOptions,
};
use eunomia::{Error, Event, EventKind, Flow, Format, Kind, Kinds, Level, Options, Vm};
use serde_json::{Value, json};

use super::Results;
use super::compare::{compare, status_name};

/// Executes every scenario.
pub fn run(table: &Value, packages: &Path) -> Results {
    let text = table.to_string();
    let text = text.replace("$pid", &std::process::id().to_string());
    let text = text.replace("$packages", packages.to_str().expect("the path is UTF-8"));
    let table: Value = serde_json::from_str(&text).expect("it is still JSON");
    let scenarios = table["scenarios"].as_array().expect("scenarios are a list");
    let results = scenarios.iter().map(|scenario| {
        let name = scenario["name"].as_str().expect("a scenario has a name").to_owned();
        (name, Scenario { began_ns: now_ns(), ..Scenario::default() }.run(&table, scenario))
    });
    results.collect()
}

/// The results of a successful step.
#[derive(Default)]
pub struct Outcome {
    /// The returned number.
    pub returned: i64,
    /// The returned string.
    pub text: Option<String>,
    /// The returned bytes.
    pub bytes: Option<Vec<u8>>,
    /// The members of a returned struct, by name.
    pub info: Value,
    /// Events or records in the table's form.
    pub events: Vec<Value>,
    /// The exit code of a guest.
    pub exit_code: Option<i32>,
    /// The required size, if the buffer was too small.
    pub need: usize,
}

type Done = Result<(), Error>;

/// A running scenario.
#[derive(Default)]
struct Scenario {
    /// CLOCK_MONOTONIC when it began.
    began_ns: u64,
    /// The version of `prepare`. It refers to `vm`, and is dropped first.
    next: Option<Prepared<'static>>,
    /// The last export.
    exported: Option<Exported>,
    vm: Option<Arc<Vm>>,
    /// The second vm.
    other: Option<Arc<Vm>>,
    group: Option<Arc<Group>>,
    log: Arc<Mutex<String>>,
    stopper: Option<JoinHandle<()>>,
    /// The first difference inside a callback.
    inside: Option<String>,
}

impl Scenario {
    /// Returns "ok" or the first difference.
    fn run(mut self, table: &Value, scenario: &Value) -> String {
        let setup = &table["setups"][scenario["setup"].as_str().expect("a scenario has a setup")];
        let list = |steps: &Value| steps.as_array().expect("steps are a list").clone();
        let steps = [list(setup), list(&scenario["steps"])].concat();
        let differs = steps.iter().enumerate().find_map(|(i, step)| {
            self.take(step).map(|difference| format!("step {}, {}: {difference}", i + 1, step["call"]))
        });
        if let Some(stopper) = self.stopper.take() {
            stopper.join().expect("the thread ends");
        }
        differs.unwrap_or_else(|| "ok".into())
    }

    /// Executes a step and returns the first difference.
    fn take(&mut self, step: &Value) -> Option<String> {
        let mut out = Outcome::default();
        let result = self.carry_out(step, &mut out);
        self.inside.take().or_else(|| compare(step, result.as_ref().err(), &out))
    }

    fn vm(&self) -> Arc<Vm> {
        Arc::clone(self.vm.as_ref().expect("the scenario has made a vm"))
    }

    fn carry_out(&mut self, step: &Value, out: &mut Outcome) -> Done {
        match word(step, "call") {
            "new" => self.make(&step["options"]),
            "destroy" => {
                self.next = None;
                self.vm = None;
                Ok(())
            }
            "prepare" => self.prepare(step, out),
            "flip" => {
                let report = self.next.take().expect("the scenario prepares a version first").flip();
                report.map(|report| out.text = Some(report.to_json()))
            }
            "abort" => {
                self.next = None;
                Ok(())
            }
            "export" => self.export(step, out),
            "import" => {
                let imported = Vm::import(&file(step, "file"), self.copy_of_exported(), Options::new())?;
                self.vm = Some(Arc::new(imported));
                Ok(())
            }
            "adopt" => self.vm().adopt(&file(step, "file"), self.copy_of_exported()),
            "stop_soon" => {
                let vm = self.vm();
                self.stopper = Some(std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    vm.stop();
                }));
                Ok(())
            }
            "triggers_start" => {
                let count = number(step, "count");
                self.stopper = Some(std::thread::spawn(move || {
                    for _ in 0..count {
                        // SAFETY: no pointers.
                        unsafe { libc::getpgid(0) };
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }));
                Ok(())
            }
            "triggers_end" => {
                self.stopper.take().expect("the scenario starts it first").join().expect("the thread ends");
                let vm = self.vm();
                while vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue)? > 0 {}
                out.returned = (vm.stats().events + vm.stats().lost_kernel) as i64;
                Ok(())
            }
            "log" => {
                out.text = Some(self.log.lock().expect("nobody panics").clone());
                Ok(())
            }
            "status_name" => {
                out.text = Some(status_name(step["number"].as_i64().expect("a number")));
                Ok(())
            }
            "poll" | "run" | "iter_each" | "map_each" | "wasm_run" => self.deliver(step, out),
            "poll_batch" => self.poll_batch(step, out),
            "swap" => {
                std::mem::swap(&mut self.vm, &mut self.other);
                Ok(())
            }
            "group_poll" => self.group_poll(step, out),
            call if call.starts_with("group_") => self.group_call(call, step, out),
            call => package(&self.vm(), call, step, out)
                .or_else(|| variable(&self.vm(), call, step, out))
                .or_else(|| map(&self.vm(), call, step, out))
                .or_else(|| program(&self.vm(), call, step, out))
                .unwrap_or_else(|| panic!("no call {call}")),
        }
    }

    fn prepare(&mut self, step: &Value, out: &mut Outcome) -> Done {
        let vm = self.vm();
        let prepared = vm.prepare(&file(step, "file"), replace_options(step))?;
        out.text = Some(prepared.report().to_json());
        // SAFETY: the version refers to the vm in `self.vm`, which is dropped after it.
        self.next = Some(unsafe { std::mem::transmute::<Prepared<'_>, Prepared<'static>>(prepared) });
        Ok(())
    }

    fn export(&mut self, step: &Value, out: &mut Outcome) -> Done {
        let has = |flag: u64| step["flags"].as_u64().unwrap_or(0) & flag != 0;
        let exported = match &mut self.next {
            Some(next) if has(1) => next.export()?,
            _ => self.vm().export()?,
        };
        let exported = if has(2) { exported } else { exported.for_reader() };
        out.text = Some(exported.description());
        self.exported = Some(exported);
        Ok(())
    }

    /// Copies the descriptors, which a call would consume.
    fn copy_of_exported(&self) -> Exported {
        let kept = self.exported.as_ref().expect("the scenario exports first");
        let fds = kept.fds().iter().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect();
        Exported::from_parts(&kept.description(), fds).expect("a description")
    }

    fn make(&mut self, options: &Value) -> Done {
        let number = |name: &str| options[name].as_u64().unwrap_or(0) as u32;
        let log = Arc::clone(&self.log);
        let levels = [Level::Warn, Level::Error, Level::Warn, Level::Info, Level::Debug];
        let wasm = WasmOptions::new()
            .stack(number("wasm_stack"))
            .heap(number("wasm_heap"))
            .memory(number("wasm_memory"))
            .budget(Duration::from_millis(number("wasm_budget_ms").into()))
            .raw_events(options["raw_events"] == true)
            .stdio(options["stdio"] == true);
        let options = Options::new()
            .replaceable(options["replaceable"] == true)
            .log(move |_, line| *log.lock().expect("nobody panics") += &format!("{line}\n"))
            .log_level(levels[number("log_level") as usize])
            .perf_pages(number("perf_pages"))
            .max_kernel_memory(number("max_kernel_memory").into())
            .poll_budget(number("poll_budget"))
            .wasm(wasm);
        self.vm = Some(Arc::new(Vm::new(options)?));
        Ok(())
    }

    /// Takes the steps inside a callback.
    fn take_inside(&mut self, step: &Value) {
        let inside = step["inside"].as_array().into_iter().flatten();
        self.inside = inside.into_iter().find_map(|step| self.take(step));
    }

    /// The calls with a callback.
    fn deliver(&mut self, step: &Value, out: &mut Outcome) -> Done {
        let (vm, format) = (self.vm(), format(step));
        let (mut events, began_ns) = (Vec::new(), self.began_ns);
        let mut on_event = |event: &Event<'_>| {
            events.push(described(event, began_ns));
            if events.len() == 1 {
                self.take_inside(step);
            }
            answer(step)
        };
        let timeout = timeout(step);
        let result = match word(step, "call") {
            "poll" => vm.poll(timeout, format, &mut on_event).map(|count| count as i64),
            "run" => vm.run(format, &mut on_event).map(|()| 0),
            "iter_each" => vm.iter_each(word(step, "prog"), &mut on_event).map(|count| count as i64),
            "map_each" => vm.map_each(word(step, "map"), format, &mut on_event).map(|count| count as i64),
            _ => vm.wasm_run(&words(step, "argv"), format, &mut on_event).map(|code| {
                out.exit_code = Some(code);
                0
            }),
        };
        out.events = events;
        out.returned = result?;
        Ok(())
    }
}

impl Scenario {
    fn poll_batch(&mut self, step: &Value, out: &mut Outcome) -> Done {
        let (began_ns, vm) = (self.began_ns, self.vm());
        let result = vm.poll_batch(timeout(step), |records| {
            let is_first = out.events.is_empty();
            out.events.extend(records.data.iter().map(|data| described_record(records, data, began_ns)));
            if is_first {
                self.take_inside(step);
            }
            answer(step)
        });
        out.returned = result? as i64;
        Ok(())
    }
}

/// The calls of groups. Each vm is a member under its own address.
impl Scenario {
    fn group(&mut self) -> Arc<Group> {
        let group = self.group.get_or_insert_with(|| Arc::new(Group::new().expect("a group")));
        Arc::clone(group)
    }

    fn group_call(&mut self, call: &str, step: &Value, out: &mut Outcome) -> Done {
        let (group, vm) = (self.group(), self.vm());
        match call {
            "group_add" => group.add(&vm, Arc::as_ptr(&vm).addr())?,
            "group_remove" => group.remove(&vm)?,
            "group_stop" => group.stop(),
            "group_readable" => out.returned = readable(group.epoll_fd(), timeout_ms(step)),
            "group_failed" => out.returned = i64::from(group.failed() == Some(Arc::as_ptr(&vm).addr())),
            call => panic!("no call {call}"),
        }
        Ok(())
    }

    fn group_poll(&mut self, step: &Value, out: &mut Outcome) -> Done {
        let (group, began_ns) = (self.group(), self.began_ns);
        let result = group.poll(timeout(step), format(step), |key, event| {
            let is_current = self.vm.as_ref().is_some_and(|vm| Arc::as_ptr(vm).addr() == key);
            let mut event = described(event, began_ns);
            event["vm"] = if is_current { "current".into() } else { "other".into() };
            out.events.push(event);
            if out.events.len() == 1 {
                self.take_inside(step);
            }
            answer(step)
        });
        out.returned = result? as i64;
        Ok(())
    }
}

/// Returns what the callback of a step returns.
fn answer(step: &Value) -> Flow {
    match step["answer"].as_str() {
        Some("end") => Flow::End,
        Some("fail") => Flow::Fail(-1),
        _ => Flow::Continue,
    }
}

// ---- the calls: each function returns `None` for calls of the others -------------------------------------------

fn package(vm: &Vm, call: &str, step: &Value, out: &mut Outcome) -> Option<Done> {
    Some(match call {
        "open" => vm.open(&file(step, "file"), kinds(step)).map(|kind| out.returned = kind as i64),
        "open_file" => vm.open_file(word(step, "path"), kinds(step)).map(|kind| out.returned = kind as i64),
        "open_object" => {
            let meta = step["meta"].as_str().map(|_| String::from_utf8(file(step, "meta")).expect("UTF-8"));
            let opened = vm.open_object(&file(step, "file"), meta.as_deref());
            opened.map(|kind| out.returned = kind as i64)
        }
        "load" => vm.load(),
        "attach" => vm.attach(),
        "detach" => vm.detach(),
        "replace" => {
            let report = vm.replace(&file(step, "file"), replace_options(step));
            report.map(|report| out.text = Some(report.to_json()))
        }
        "commit" => vm.commit(),
        "rollback" => vm.rollback().map(|report| out.text = Some(report.to_json())),
        "drained" => vm.drained().map(|drained| out.returned = i64::from(drained)),
        "describe" => vm.describe().map(|text| out.text = Some(text)),
        "stop" => {
            vm.stop();
            Ok(())
        }
        "pause" => vm.pause(step["on"] == true),
        "queue_start" => vm.queue_start(number(step, "max_bytes")),
        "queue_stop" => vm.queue_stop(),
        "stats_get" => {
            out.info = stats(&vm.stats());
            Ok(())
        }
        "readable" => {
            out.returned = readable(vm.epoll_fd(), timeout_ms(step));
            Ok(())
        }
        "read" => read(vm, step, out),
        _ => return None,
    })
}

fn replace_options(step: &Value) -> ReplaceOptions {
    let flags = step["flags"].as_u64().unwrap_or(0);
    let (mut options, has) = (ReplaceOptions::default(), |bit: u64| flags & bit != 0);
    (options.fresh_maps, options.strict_maps) = (has(1), has(2));
    (options.fresh_vars, options.ordered) = (has(4), has(8));
    options.keep_old = has(16);
    options
}

fn variable(vm: &Vm, call: &str, step: &Value, out: &mut Outcome) -> Option<Done> {
    let name = step["name"].as_str().unwrap_or_default();
    Some(match call {
        "var_set_json" => vm.var_set_json(name, word(step, "json")),
        "var_set" => vm.var_set(name, &bytes(step, "bytes")),
        "var_get_json" => vm.var_get_json(name).map(|text| out.text = Some(text)),
        "var_get" => vm.var_get(name).map(|bytes| out.bytes = Some(bytes)),
        "args_set" => vm.args_set(&words(step, "argv")).map(|help| out.returned = help.into()),
        "args_help" => vm.args_help().map(|text| out.text = Some(text)),
        "trigger" => {
            let set = step["events"].as_u64().map(|events| vm.var_set_json("burst", &events.to_string()));
            // SAFETY: no pointers.
            unsafe { libc::getpgid(0) };
            set.unwrap_or(Ok(()))
        }
        _ => return None,
    })
}

fn map(vm: &Vm, call: &str, step: &Value, out: &mut Outcome) -> Option<Done> {
    let (name, flags) = (step["map"].as_str().unwrap_or_default(), step["flags"].as_u64().unwrap_or(0));
    let key_json = step["key"].as_str().unwrap_or_default();
    Some(match call {
        "map_count" => vm.map_count().map(|count| out.returned = count as i64),
        "map_at" => vm.map_at(number(step, "index")).map(|map| out.info = map_info(&map)),
        "map_find" => vm.map_find(name).map(|map| out.info = map_info(&map)),
        "map_get" => {
            let mut value = vec![0; number(step, "size")];
            let got = vm.map_get(name, &bytes(step, "key"), &mut value);
            got.map(|()| out.bytes = Some(value))
        }
        "map_set" => vm.map_set(name, &bytes(step, "key"), &bytes(step, "value"), flags),
        "map_set_max_entries" => vm.map_set_max_entries(name, number(step, "count") as u32),
        "map_del" => vm.map_del(name, &bytes(step, "key")),
        "map_next" => {
            let mut next = vec![0; number(step, "size")];
            let key = step["key"].as_str().map(|_| bytes(step, "key"));
            vm.map_next(name, key.as_deref(), &mut next).map(|()| out.bytes = Some(next))
        }
        "map_get_json" => vm.map_get_json(name, key_json).map(|text| out.text = Some(text)),
        "map_set_json" => vm.map_set_json(name, key_json, word(step, "value"), flags),
        "map_del_json" => vm.map_del_json(name, key_json),
        "map_dump" => read(vm, step, out),
        _ => return None,
    })
}

fn program(vm: &Vm, call: &str, step: &Value, out: &mut Outcome) -> Option<Done> {
    let name = step["prog"].as_str().unwrap_or_default();
    Some(match call {
        "source_count" => vm.source_count().map(|count| out.returned = count as i64),
        "source_at" => vm.source_at(number(step, "index")).map(|source| out.info = source_info(&source)),
        "fields" => vm.source_at(number(step, "index")).map(|source| {
            out.info = fields(source.ty.as_ref().expect("the package tells"), step["member"].as_str());
        }),
        "prog_count" => vm.prog_count().map(|count| out.returned = count as i64),
        "prog_at" => vm.prog_at(number(step, "index")).map(|prog| out.info = prog_info(&prog)),
        "prog_find" => vm.prog_find(name).map(|prog| out.info = prog_info(&prog)),
        "prog_run" => {
            let (data, context) = (bytes(step, "data"), bytes(step, "ctx"));
            let mut left = vec![0; number(step, "size")];
            let input = ProgInput::new().data(&data).context(&context).data_out(&mut left);
            vm.prog_run(name, input).map(|run| {
                left.truncate(run.data_len);
                (out.returned, out.bytes) = (run.return_value.into(), Some(left));
            })
        }
        "prog_set_autoload" => vm.prog_set_autoload(name, step["on"] == true),
        "prog_set_target_json" => vm.prog_set_target_json(name, word(step, "json")),
        _ => return None,
    })
}

/// `read` and `map_dump`.
fn read(vm: &Vm, step: &Value, out: &mut Outcome) -> Done {
    let (mut batch, mut room) = (Batch::default(), vec![0; number(step, "room")]);
    let result = if word(step, "call") == "read" {
        vm.read(timeout(step), format(step), &mut room, &mut batch)
    } else {
        vm.map_dump(word(step, "map"), format(step), &mut room, &mut batch)
    };
    out.need = batch.need;
    out.returned = result? as i64;
    if format(step) == Format::Raw {
        let record = |record: eunomia::vm::Record<'_>| json!({ "kind": "sample", "data": hex(record.data), "key": hex(record.key) });
        out.events = batch.records(&room).map(record).collect();
    } else {
        out.text = Some(String::from_utf8_lossy(&room[..batch.len]).into_owned());
    }
    Ok(())
}

fn readable(fd: RawFd, timeout_ms: i32) -> i64 {
    let mut fd = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, which lives longer than the call.
    unsafe { libc::poll(&mut fd, 1, timeout_ms) }.into()
}

// ---- values of the table -----------------------------------------------------------------------------------------

fn word<'a>(step: &'a Value, name: &str) -> &'a str {
    step[name].as_str().unwrap_or_else(|| panic!("{step}: no {name}"))
}

fn words<'a>(step: &'a Value, name: &str) -> Vec<&'a str> {
    step[name].as_array().expect("a list").iter().map(|word| word.as_str().expect("a text")).collect()
}

fn number(step: &Value, name: &str) -> usize {
    step[name].as_u64().unwrap_or_else(|| panic!("{step}: no {name}")) as usize
}

fn bytes(step: &Value, name: &str) -> Vec<u8> {
    let digits = word(step, name);
    (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect()
}

/// Returns bytes in the table's form.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file(step: &Value, name: &str) -> Vec<u8> {
    std::fs::read(word(step, name)).expect("the file is there")
}

fn format(step: &Value) -> Format {
    match step["format"].as_str() {
        Some("raw") => Format::Raw,
        Some("text") => Format::Text,
        _ => Format::Json,
    }
}

/// A negative timeout is none; one that the table leaves out does not wait.
fn timeout(step: &Value) -> Option<Duration> {
    u64::try_from(step["timeout_ms"].as_i64().unwrap_or(0)).ok().map(Duration::from_millis)
}

fn timeout_ms(step: &Value) -> i32 {
    step["timeout_ms"].as_i64().expect("a number") as i32
}

fn kinds(step: &Value) -> Kinds {
    match word(step, "kinds") {
        "json" => Kind::Json.into(),
        "wasm" => Kind::Wasm.into(),
        _ => Kinds::ALL,
    }
}

// ---- results in the table's form -------------------------------------------------------------------------------

fn described(event: &Event<'_>, began_ns: u64) -> Value {
    let show = |bytes: &[u8]| match event.format {
        Format::Raw => hex(bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    json!({
        "kind": kind_name(event.kind),
        "source": event.source.to_str().expect("UTF-8"),
        "data": show(event.data),
        "key": show(event.key),
        "type": type_name(event.ty),
        "cpu": if event.cpu >= 0 { "known" } else { "unknown" },
        "time": known_time(event.time_ns, began_ns),
    })
}

fn described_record(records: &Records<'_>, data: &[u8], began_ns: u64) -> Value {
    json!({
        "kind": kind_name(records.kind),
        "source": records.source.to_str().expect("UTF-8"),
        "data": hex(data),
        "key": hex(records.key),
        "type": type_name(records.ty),
        "cpu": if records.cpu >= 0 { "known" } else { "unknown" },
        "time": known_time(records.time_ns, began_ns),
    })
}

fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Sample => "sample",
        EventKind::Lost => "lost",
        EventKind::MapEntry => "map_entry",
        EventKind::Header => "header",
        EventKind::Output => "output",
        EventKind::Round => "round",
        _ => "unknown",
    }
}

fn known_time(time_ns: u64, began_ns: u64) -> &'static str {
    if (began_ns..=now_ns()).contains(&time_ns) { "known" } else { "unknown" }
}

/// CLOCK_MONOTONIC in nanoseconds.
fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` lives for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn type_name(ty: Option<&Arc<Type>>) -> String {
    ty.map(|ty| ty.name.to_string()).unwrap_or_default()
}

fn map_info(map: &MapInfo) -> Value {
    json!({
        "name": map.name.to_str().expect("UTF-8"), "kind": map.kind, "key_size": map.key_size,
        "value_size": map.value_size, "max_entries": map.max_entries, "cpus": map.cpus, "fd": map.fd,
        "bytes": map.bytes,
        "key_type": type_name(map.key_type.as_ref()), "value_type": type_name(map.value_type.as_ref()),
    })
}

fn source_info(source: &SourceInfo) -> Value {
    json!({
        "name": source.name.to_str().expect("UTF-8"), "kind": source.kind as u32,
        "interval_ms": source.sample.as_ref().map_or(0, |sample| sample.interval_ms), "record_size": source.record_size,
        "type": type_name(source.ty.as_ref()), "key_type": type_name(source.key_ty.as_ref()),
        "events": source.events, "lost": source.lost, "lost_known": source.lost_known as u32,
    })
}

fn prog_info(prog: &ProgInfo) -> Value {
    let flags = u32::from(prog.autoload) | u32::from(prog.loaded) << 1 | u32::from(prog.attached) << 2;
    json!({
        "name": prog.name.to_str().expect("UTF-8"), "section": prog.section.to_str().expect("UTF-8"),
        "target": prog.target.to_str().expect("UTF-8"), "type": prog.kind, "flags": flags, "id": prog.id,
    })
}

fn stats(stats: &Stats) -> Value {
    json!({
        "events": stats.events, "bytes": stats.bytes, "lost_kernel": stats.lost_kernel,
        "lost_queue": stats.lost_queue, "guest_dropped": stats.guest_dropped, "malformed": stats.malformed,
        "polls": stats.polls, "replaces": stats.replaces, "lost_known": stats.lost_known as u32,
    })
}

/// Returns the members of a type, or of the type of one of them.
fn fields(ty: &Arc<Type>, member: Option<&str>) -> Value {
    let inner = member.and_then(|name| ty.member(name)).map(|field| field.ty);
    let fields = inner.as_ref().unwrap_or(ty).fields.iter().map(|field| {
        json!({
            "name": field.name.to_string(), "type": field.ty.name.to_string(), "kind": field.ty.kind as u32,
            "bit_offset": field.bit_offset, "bit_size": field.bit_size, "value": field.value,
        })
    });
    fields.collect()
}
