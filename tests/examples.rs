//! Each program of examples/bpf delivers what its README promises, once something happens that it watches.
//! `make packages` compiles them beforehand. The tests named `vm_…` need kprobes and fentry: `make vm` runs them.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::iter;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{self, Command};
use std::time::{Duration, Instant};

use eunomia::{Event, EventKind, Flow, Format, Kind, Options, Vm};
use serde_json::{Value, json};

/// Far beyond what any test takes, emulated machines included; reached only when an event never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An attached example and its events, each taken out once.
struct Example {
    vm: Vm,
    events: VecDeque<Vec<u8>>,
    deadline: Instant,
}

impl Example {
    /// Opens an example's package, applies its options and attaches it; `None` where this user may not.
    fn attach(name: &str, options: &[&str]) -> Option<Example> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            assert!(std::env::var_os("CI").is_none(), "{name}: BPF needs root, and CI must not skip");
            eprintln!("SKIPPED: {name} needs root");
            return None;
        }
        let vm = Vm::new(Options::default()).unwrap();
        let path = format!("{}/target/packages/{name}/package.json", env!("CARGO_MANIFEST_DIR"));
        vm.open_file(&path, Kind::Json as u32).expect("`make packages` comes first");
        vm.args_set(&[&[name], options].concat()).unwrap();
        vm.attach().unwrap();
        Some(Example { vm, events: VecDeque::new(), deadline: Instant::now() + PATIENCE })
    }

    /// The next event, whichever it is.
    fn next(&mut self) -> Value {
        while self.events.is_empty() {
            assert!(Instant::now() < self.deadline, "the awaited event never came");
            let mut keep = |event: &Event| {
                if matches!(event.kind, EventKind::Sample | EventKind::MapEntry) {
                    self.events.push_back(event.data.to_vec());
                }
                Flow::Continue
            };
            self.vm.poll(100, Format::Json, &mut keep).unwrap();
        }
        serde_json::from_slice(&self.events.pop_front().unwrap()).unwrap()
    }

    /// The next event that has all the members of `wanted`.
    fn wait_for(&mut self, wanted: Value) -> Value {
        loop {
            let event = self.next();
            if has(&event, &wanted) {
                return event;
            }
        }
    }
}

fn has(event: &Value, wanted: &Value) -> bool {
    match (event, wanted) {
        (Value::Object(event), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| event.get(name).is_some_and(|member| has(member, value)))
        }
        _ => event == wanted,
    }
}

/// Runs a shell script and returns the shell's process id.
fn shell(script: &str) -> u32 {
    let mut child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// Sends datagrams of `size` bytes over loopback.
fn send_datagrams(count: usize, size: usize) {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        sender.send_to(&vec![0; size], receiver.local_addr().unwrap()).unwrap();
    }
}

#[test]
fn hello_prints_to_the_trace_log_and_delivers_nothing() {
    let pid = process::id();
    let Some(example) = Example::attach("hello", &["--target_pid", &pid.to_string()]) else { return };
    let mut null = File::create("/dev/null").unwrap();
    let greeted = || {
        null.write_all(b"x").unwrap();
        // A reading of the log ends early where a write goes past it.
        fs::read_to_string("/sys/kernel/tracing/trace")
            .unwrap()
            .contains(&format!("hello from process {pid}\n"))
    };
    assert!(iter::repeat_with(greeted).take(100).any(|greeted| greeted));
    assert_eq!(example.vm.poll(10, Format::Json, &mut |_| Flow::Continue).unwrap(), 0);
}

#[test]
fn bootstrap_reports_exec_and_exit() {
    let Some(mut example) = Example::attach("bootstrap", &[]) else { return };
    let pid = shell("exit 3");

    let exec = json!({"pid": pid, "ppid": process::id(), "filename": "/bin/sh", "exit_event": false});
    assert_eq!(example.wait_for(exec)["duration_ns"], 0);
    let exit = example.wait_for(json!({"pid": pid, "exit_event": true, "exit_code": 3, "comm": "sh"}));
    assert_ne!(exit["duration_ns"], 0);
}

#[test]
fn bootstrap_reports_only_long_runs_when_told() {
    let Some(mut example) = Example::attach("bootstrap", &["--min_duration_ns", "100000000"]) else { return };
    let short = shell(":");
    let long = shell("sleep 0.2");

    loop {
        let event = example.next();
        assert_eq!(event["exit_event"], true);
        assert_ne!(event["pid"], short);
        assert!(event["duration_ns"].as_u64().unwrap() >= 100_000_000);
        if event["pid"] == long {
            break;
        }
    }
}

#[test]
fn opensnoop_reports_only_failed_opens_of_one_process_when_told() {
    let pid = process::id();
    let Some(mut example) = Example::attach("opensnoop", &["--pid", &pid.to_string(), "--failed"]) else {
        return;
    };
    let missing = format!("/tmp/eunomia-opensnoop-{pid}");
    File::open("/proc/self/stat").unwrap();
    File::open(&missing).unwrap_err();

    loop {
        let event = example.next();
        assert_eq!(event["pid"], pid);
        assert!(event["ret"].as_i64().unwrap() < 0);
        if event["fname"] == missing {
            assert_eq!(event["ret"], -2); // ENOENT
            break;
        }
    }
}

#[test]
fn sigsnoop_reports_sender_target_and_signal() {
    let Some(mut example) = Example::attach("sigsnoop", &["--signal", "28"]) else { return };
    let pid = shell("kill -s WINCH $$");

    example.wait_for(json!({"pid": pid, "tpid": pid, "sig": 28, "ret": 0, "comm": "sh"}));
}

#[test]
fn runqlat_sums_waits_up_in_a_histogram() {
    let Some(mut example) = Example::attach("runqlat", &[]) else { return };

    let entry = example.wait_for(json!({"key": 0, "value": {"comm": ""}}));
    let slots = entry["value"]["slots"].as_array().unwrap();
    assert_eq!(slots.len(), 26);
    assert!(slots.iter().any(|count| count.as_u64().unwrap() > 0));
}

#[test]
fn tcpstates_reports_addresses_of_128_bits() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(mut example) = Example::attach("tcpstates", &["--remote-port", &port.to_string()]) else {
        return;
    };
    TcpStream::connect(("127.0.0.1", port)).unwrap();

    let loopback = u32::from_ne_bytes([127, 0, 0, 1]).to_string();
    let syn_sent_to_established = json!({"oldstate": 2, "newstate": 1, "dport": port, "family": 2});
    let event = example.wait_for(syn_sent_to_established);
    assert_eq!((&event["saddr"], &event["daddr"]), (&json!(loopback), &json!(loopback)));
}

#[test]
fn xdp_counts_packets_by_ethertype() {
    let Some(mut example) = Example::attach("xdp", &[]) else { return };
    send_datagrams(5, 1000);

    loop {
        let traffic = &example.wait_for(json!({"key": 0x0800}))["value"];
        if traffic["packets"].as_u64().unwrap() >= 5 {
            assert!(traffic["bytes"].as_u64().unwrap() >= 5000);
            break;
        }
    }
}

#[test]
fn tc_reports_packets() {
    let Some(mut example) = Example::attach("tc", &[]) else { return };
    send_datagrams(1, 777);

    let headers = 14 + 20 + 8; // Ethernet, IPv4, UDP
    let (from, to) = ([127, 0, 0, 1], [127, 0, 0, 1]);
    example.wait_for(json!({"ifindex": 1, "len": headers + 777, "protocol": 17, "saddr": from, "daddr": to}));
}

#[test]
fn profile_samples_stacks() {
    let pid = process::id();
    let Some(mut example) = Example::attach("profile", &["--pid", &pid.to_string()]) else { return };
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(200) {}

    loop {
        let sample = example.next();
        assert_eq!(sample["pid"], pid);
        if sample["ustack_sz"].as_i64().unwrap() > 0 {
            assert_ne!(sample["ustack"][0], 0);
            break;
        }
    }
}

#[test]
#[ignore = "needs kprobes: run by make vm"]
fn vm_kprobe_link_reports_removals() {
    reports_removals("kprobe-link");
}

#[test]
#[ignore = "needs fentry: run by make vm"]
fn vm_fentry_link_reports_removals() {
    reports_removals("fentry-link");
}

fn reports_removals(name: &str) {
    let Some(mut example) = Example::attach(name, &[]) else { return };
    let pid = process::id();
    let path = format!("/tmp/eunomia-{name}-{pid}");
    File::create(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::remove_file(&path).unwrap_err();

    let enoent = -2;
    for result in [0, enoent] {
        example.wait_for(json!({"pid": pid, "returned": false, "filename": path}));
        example.wait_for(json!({"pid": pid, "returned": true, "ret": result, "filename": ""}));
    }
}
