//! Every type of program that this kernel can attach: it loads, attaches, runs and detaches.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use eunomia::{Flow, Format, Status, Vm};

use crate::fixture::{Clean, call, package, refused, source, tid};
use crate::needs_root;
use crate::support::{attached, opened};

/// A source with the counter `hits`, followed by these lines.
macro_rules! counting {
    ($lines:literal) => {
        source!(
            "u64 hits = 0;\nconst volatile u32 only_tid = 0;\n",
            "static bool is_ours(void) { return (u32)bpf_get_current_pid_tgid() == only_tid; }\n",
            "static int count(void) { __sync_fetch_and_add(&hits, 1); return 0; }\n",
            $lines
        )
    };
}

fn hits(vm: &Vm) -> u64 {
    vm.var_get_json("hits").unwrap().parse().unwrap()
}

/// Calls `count` until two results in a row are equal. A program may still run on another CPU while it is detached, and a child
/// of another test may hold the link until its exec.
fn settled(mut count: impl FnMut() -> u64) -> u64 {
    let mut last = count();
    for _ in 0..200 {
        let now = count();
        if now == last {
            return now;
        }
        last = now;
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("still fires although it is detached");
}

/// Opens, sets the target (unless it is empty), attaches; `trigger` increases `hits`, but not after detach.
fn fires(source: &'static str, prog: &str, target: &str, trigger: impl Fn()) {
    let package = package(source);
    let clean = Clean::new();
    let vm = opened(&package);
    if vm.var_get_json("only_tid").is_ok() {
        vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    }
    if !target.is_empty() {
        vm.prog_set_target_json(prog, target).unwrap();
    }
    vm.attach().unwrap();
    assert!(vm.prog_find(prog).unwrap().attached);
    trigger();
    let counted = hits(&vm);
    assert!(counted > 0, "{prog} did not fire");
    vm.detach().unwrap();
    let before = settled(|| {
        trigger();
        hits(&vm)
    });
    vm.attach().unwrap();
    trigger();
    assert!(hits(&vm) > before, "{prog} does not fire any more");
    drop(vm);
    drop(clean);
}

#[test]
fn tracepoints() {
    needs_root!();
    const SOURCE: &str = counting!(
        "SEC(\"tracepoint/syscalls/sys_enter_getpgid\") int on_call(void *ctx) { return is_ours() ? count() : 0; }"
    );
    fires(SOURCE, "on_call", "", || call(1));
    fires(SOURCE, "on_call", r#"{"attach":"tp/syscalls/sys_exit_getpgid"}"#, || call(1));
}

#[test]
fn raw_tracepoints() {
    needs_root!();
    const RAW: &str =
        counting!("SEC(\"raw_tp/sys_enter\") int on_call(void *ctx) { return is_ours() ? count() : 0; }");
    fires(RAW, "on_call", "", || call(1));
    fires(RAW, "on_call", r#"{"attach":"raw_tp/sys_exit"}"#, || call(1));
    const BARE: &str =
        counting!("SEC(\"raw_tp\") int on_call(void *ctx) { return is_ours() ? count() : 0; }");
    fires(BARE, "on_call", r#"{"attach":"raw_tp/sys_enter"}"#, || call(1));
    const BTF: &str = counting!(
        "SEC(\"tp_btf/sys_enter\") int BPF_PROG(on_call, struct pt_regs *regs, long id) { return is_ours() ? count() : 0; }"
    );
    fires(BTF, "on_call", "", || call(1));
}

/// A function of this test for a probe; called through a pointer so that it stays one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn eunomia_probed_by_tests(number: u32) -> u32 {
    std::hint::black_box(number) + 1
}

fn call_probed() {
    let function: extern "C" fn(u32) -> u32 = std::hint::black_box(eunomia_probed_by_tests);
    assert_eq!(function(1), 2);
}

#[test]
fn probes_of_user_space_code() {
    needs_root!();
    const UPROBE: &str =
        counting!("SEC(\"uprobe\") int on_call(void *ctx) { return is_ours() ? count() : 0; }");
    const URETPROBE: &str =
        counting!("SEC(\"uretprobe\") int on_call(void *ctx) { return is_ours() ? count() : 0; }");
    const NAMED: &str = counting!(
        "SEC(\"uprobe/libc.so.6:getpgid\") int on_call(void *ctx) { return is_ours() ? count() : 0; }"
    );
    let me = std::env::current_exe().unwrap();
    let own = format!("{{\"path\":{me:?},\"func\":\"eunomia_probed_by_tests\"}}");
    for source in [UPROBE, URETPROBE] {
        fires(source, "on_call", &own, call_probed);
        fires(source, "on_call", r#"{"path":"libc.so.6","func":"getpgid"}"#, || call(1));
        let pid = format!("{{\"path\":\"libc.so.6\",\"func\":\"getpgid\",\"pid\":{}}}", std::process::id());
        fires(source, "on_call", &pid, || call(1));
    }
    fires(UPROBE, "on_call", r#"{"attach":"uretprobe/libc.so.6:getpgid"}"#, || call(1));
    fires(NAMED, "on_call", "", || call(1));
    fires(
        NAMED,
        "on_call",
        &format!("{{\"path\":{me:?},\"func\":\"eunomia_probed_by_tests\"}}"),
        call_probed,
    );
}

#[test]
fn several_targets_of_one_program() {
    needs_root!();
    const UPROBE: &str =
        counting!("SEC(\"uprobe\") int on_call(void *ctx) { return is_ours() ? count() : 0; }");
    let package = package(UPROBE);
    let clean = Clean::new();
    let vm = opened(&package);
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    let me = std::env::current_exe().unwrap();
    let targets = format!(
        "[{{\"path\":{me:?},\"func\":\"eunomia_probed_by_tests\"}},{{\"path\":\"libc.so.6\",\"func\":\"getpgid\"}}]"
    );
    vm.prog_set_target_json("on_call", &targets).unwrap();
    vm.attach().unwrap();
    call_probed();
    call(1);
    assert_eq!(hits(&vm), 2);
    drop(vm);
    drop(clean);
}

const ITERATORS: &str = counting!(
    r#"
SEC("iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    if (task && task->pid == only_tid)
        BPF_SEQ_PRINTF(ctx->meta->seq, "pid %d\nis %s\n", task->pid, task->comm);
    return 0;
}

struct entry { u32 pid, tgid; };

SEC("iter/task")
int dump_tasks(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    if (!task)
        return 0;
    struct entry entry = {.pid = task->pid, .tgid = task->tgid};
    bpf_seq_write(ctx->meta->seq, &entry, sizeof(entry));
    return 0;
}
"#
);

#[test]
fn iterators_return_lines_or_binary_records() {
    needs_root!();
    let package = package(ITERATORS);
    let clean = Clean::new();
    let vm = opened(&package);
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    refused(vm.iter_each("list_tasks", |_| Flow::Continue), Status::State, &["list_tasks", "not attached"]);
    vm.attach().unwrap();
    for _ in 0..2 {
        let mut lines = Vec::new();
        let count = vm.iter_each("list_tasks", |event| {
            assert_eq!(event.format, Format::Text);
            lines.push(String::from_utf8(event.data.to_vec()).unwrap());
            Flow::Continue
        });
        assert_eq!(count.unwrap(), 2);
        assert_eq!(lines[0], format!("pid {}", tid()));
        assert!(lines[1].starts_with("is "), "{lines:?}");
    }
    let mut bytes = Vec::new();
    vm.iter_each("dump_tasks", |event| {
        assert_eq!(event.format, Format::Raw);
        bytes.extend_from_slice(event.data);
        Flow::Continue
    })
    .unwrap();
    let own: Vec<u8> = [tid(), std::process::id()].iter().flat_map(|number| number.to_ne_bytes()).collect();
    assert!(
        bytes.chunks_exact(8).any(|entry| entry == own),
        "own thread not among {} entries",
        bytes.len() / 8
    );
    let ended = vm.iter_each("list_tasks", |_| Flow::End);
    assert_eq!(ended.unwrap(), 1);
    refused(vm.iter_each("list_tasks", |_| Flow::Fail(-3)), Status::Callback, &["-3"]);
    refused(vm.iter_each("nobody", |_| Flow::Continue), Status::NotFound, &["nobody"]);
    drop(vm);
    drop(clean);
}

fn run(command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let done = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

fn output(command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    String::from_utf8(Command::new(words[0]).args(&words[1..]).output().unwrap().stdout).unwrap()
}

/// Runs `body` in a thread with its own network namespace, which has loopback and the pair `veth0`, `veth1`.
fn in_network(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: changes this thread alone, which ends with `body`.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network namespace");
            run("ip link set lo up");
            run("ip link add veth0 type veth peer name veth1");
            run("ip link set veth0 up");
            run("ip link set veth1 up");
            body();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Sends a datagram over an interface to an address that nobody has.
fn send(interface: &str) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let name = std::ffi::CString::new(interface).unwrap();
    // SAFETY: `name` has the given length, including its NUL.
    let bound = unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let len = name.as_bytes_with_nul().len() as u32;
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_ptr().cast(), len)
    };
    assert_eq!(bound, 0);
    socket.set_broadcast(true).unwrap();
    socket.send_to(b"hello", (Ipv4Addr::BROADCAST, 9)).unwrap();
}

#[test]
fn xdp_by_name_and_by_index() {
    needs_root!();
    const XDP: &str =
        counting!("SEC(\"xdp\") int on_packet(struct xdp_md *ctx) { count(); return XDP_PASS; }");
    let _ = package(XDP);
    in_network(|| {
        fires(XDP, "on_packet", r#"{"interface":"veth1"}"#, || send("veth0"));
        fires(XDP, "on_packet", "", || send("lo"));
        fires(XDP, "on_packet", r#"{"ifindex":1,"flags":2}"#, || send("lo"));
        // An interface accepts one such program: the second is refused, and the first stays attached.
        let clean = Clean::new();
        let first = opened(&package(XDP));
        first.attach().unwrap();
        let second = opened(&package(XDP));
        refused(second.attach(), Status::Attach, &["on_packet", "interface 1", "busy"]);
        send("lo");
        assert!(hits(&first) > 0);
        drop((first, second));
        drop(clean);
    });
}

#[test]
fn detaching_does_not_wait_for_a_child_that_holds_the_link() {
    needs_root!();
    const XDP: &str =
        counting!("SEC(\"xdp\") int on_packet(struct xdp_md *ctx) { count(); return XDP_PASS; }");
    let package = package(XDP);
    in_network(|| {
        let vm = opened(&package);
        vm.attach().unwrap();
        send("lo");
        assert!(hits(&vm) > 0);
        // SAFETY: the child only sleeps, until it is killed below.
        let child = unsafe { libc::fork() };
        if child == 0 {
            loop {
                // SAFETY: as above.
                unsafe { libc::pause() };
            }
        }
        vm.detach().unwrap();
        let before = hits(&vm);
        for _ in 0..20 {
            send("lo");
        }
        let after = hits(&vm);
        // SAFETY: a child of this process, which is reaped at once.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        assert!(after < before + 20, "every packet still counts");
    });
}

#[test]
fn a_forked_child_does_not_detach_the_programs_of_its_parent() {
    needs_root!();
    const XDP: &str =
        counting!("SEC(\"xdp\") int on_packet(struct xdp_md *ctx) { count(); return XDP_PASS; }");
    const TC: &str = counting!("SEC(\"tc\") int on_packet(struct __sk_buff *ctx) { return count(); }");
    const CLOCK: &str = counting!("SEC(\"perf_event\") int on_packet(void *ctx) { return count(); }");
    let packages = [package(XDP), package(TC), package(CLOCK)];
    in_network(|| {
        for package in &packages {
            let vm = opened(package);
            vm.attach().unwrap();
            // SAFETY: the child drops its copies and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                drop(vm);
                // SAFETY: as above.
                unsafe { libc::_exit(0) };
            }
            let mut status = -1;
            // SAFETY: a child of this process, and memory for its status.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0);
            let before = hits(&vm);
            let started = std::time::Instant::now();
            while hits(&vm) == before {
                assert!(started.elapsed().as_secs() < 30, "detached by the child");
                send("lo");
            }
        }
    });
}

#[test]
fn a_filter_left_by_a_killed_host_is_replaced() {
    needs_root!();
    const TC: &str = counting!("SEC(\"tc\") int on_packet(struct __sk_buff *ctx) { return count(); }");
    const OTHER: &str = counting!("SEC(\"tc\") int on_packet(struct __sk_buff *ctx) { count(); return 3; }");
    let (package, other) = (package(TC), package(OTHER));
    in_network(|| {
        // SAFETY: the child attaches and exits without cleaning up.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let vm = opened(&package);
            let code = i32::from(vm.attach().is_err());
            // SAFETY: as above.
            unsafe { libc::_exit(code) };
        }
        let mut status = -1;
        // SAFETY: a child of this process, and memory for its status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        assert!(output("tc filter show dev lo ingress").contains("on_packet"), "it outlives its host");
        // Another program cannot replace it. The same program can, and stays attached while its host lives.
        assert_eq!(opened(&other).attach().unwrap_err().errno(), Some(libc::EEXIST));
        let vm = opened(&package);
        vm.attach().unwrap();
        let before = hits(&vm);
        send("lo");
        assert!(hits(&vm) > before);
        assert_eq!(opened(&package).attach().unwrap_err().errno(), Some(libc::EEXIST));
        drop(vm);
        assert_eq!(output("tc filter show dev lo ingress"), "");
    });
}

#[test]
fn traffic_control_of_both_kinds() {
    needs_root!();
    const TC: &str = counting!("SEC(\"tc\") int on_packet(struct __sk_buff *ctx) { return count(); }");
    const TCX: &str =
        counting!("SEC(\"tcx/egress\") int on_packet(struct __sk_buff *ctx) { count(); return -1; }");
    let _ = package(TC);
    let _ = package(TCX);
    in_network(|| {
        fires(TCX, "on_packet", r#"{"interface":"veth0"}"#, || send("veth0"));
        let egress = r#"{"interface":"veth0","tchook":{"attach_point":"BPF_TC_EGRESS"},"tcopts":{"handle":7,"priority":77}}"#;
        fires(TC, "on_packet", egress, || send("veth0"));
        assert_eq!(output("tc filter show dev veth0 egress"), "");
        assert!(!output("tc qdisc show dev veth0").contains("clsact"), "the qdisc that was made stays");

        let clean = Clean::new();
        let vm = opened(&package(TC));
        vm.prog_set_target_json("on_packet", egress).unwrap();
        vm.attach().unwrap();
        let filters = output("tc filter show dev veth0 egress");
        assert!(filters.contains("pref 77") && filters.contains("handle 0x7"), "{filters}");

        // The same handle and priority are in use; others are free.
        let other = opened(&package(TC));
        other.prog_set_target_json("on_packet", egress).unwrap();
        let remove = "tc filter del dev veth0 egress pref 77 handle 0x7 bpf";
        let words = ["on_packet", "veth0", "handle 7", "priority 77", "exists already", remove];
        assert_eq!(refused(other.attach(), Status::Attach, &words).errno(), Some(libc::EEXIST));
        let free = r#"{"interface":"veth0","tchook":{"attach_point":"BPF_TC_EGRESS"},"tcopts":{"handle":8,"priority":78}}"#;
        other.prog_set_target_json("on_packet", free).unwrap();
        other.attach().unwrap();
        // The filter that created the qdisc is removed first, and the other one stays.
        drop(vm);
        let before = hits(&other);
        send("veth0");
        assert!(hits(&other) > before, "the second filter went with the first");
        drop(other);

        // A killed host leaves its filter behind, and the command removes it.
        let vm = opened(&package(TC));
        vm.prog_set_target_json("on_packet", egress).unwrap();
        vm.attach().unwrap();
        run(remove);
        assert_eq!(output("tc filter show dev veth0 egress"), "");
        vm.detach().unwrap();
        vm.attach().unwrap();
        drop(vm);
        refused(
            {
                let vm = opened(&package(TC));
                vm.prog_set_target_json("on_packet", r#"{"tchook":{"attach_point":"BPF_TC_CUSTOM"}}"#)
                    .unwrap();
                vm.attach()
            },
            Status::Attach,
            &["on_packet", "attach_point"],
        );
        drop(clean);
    });
}

/// A cgroup for a test. The threads of this process stay in their own cgroup.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    fn new(name: &str) -> Cgroup {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(std::path::Path::new);
        let root =
            root.into_iter().find(|root| root.join("cgroup.procs").exists()).expect("cgroup v2 is mounted");
        let path = root.join(format!("eunomia-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Cgroup(path)
    }

    fn target(&self) -> String {
        format!("{{\"cgroup\":{:?}}}", self.0)
    }

    /// Runs a command in it.
    fn run(&self, command: &str) {
        let script = format!("echo $$ > {}/cgroup.procs && {command}", self.0.display());
        let done = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).unwrap();
    }
}

#[test]
fn control_groups() {
    needs_root!();
    const SKB: &str =
        counting!("SEC(\"cgroup_skb/egress\") int on_packet(struct __sk_buff *ctx) { count(); return 1; }");
    const SOCK: &str =
        counting!("SEC(\"cgroup/sock_create\") int on_socket(struct bpf_sock *ctx) { count(); return 1; }");
    const CONNECT: &str = counting!(
        "SEC(\"cgroup/connect4\") int on_connect(struct bpf_sock_addr *ctx) { count(); return 1; }"
    );
    const SOCKOPS: &str =
        counting!("SEC(\"sockops\") int on_event(struct bpf_sock_ops *ctx) { count(); return 1; }");
    for (source, prog) in
        [(SKB, "on_packet"), (SOCK, "on_socket"), (CONNECT, "on_connect"), (SOCKOPS, "on_event")]
    {
        let cgroup = Cgroup::new(prog);
        fires(source, prog, &cgroup.target(), || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            cgroup.run(&format!("exec 3<>/dev/tcp/127.0.0.1/{}", listener.local_addr().unwrap().port()));
        });
    }
}

#[test]
fn socket_lookup() {
    needs_root!();
    const LOOKUP: &str =
        counting!("SEC(\"sk_lookup\") int on_lookup(struct bpf_sk_lookup *ctx) { count(); return SK_PASS; }");
    let _ = package(LOOKUP);
    in_network(|| {
        fires(LOOKUP, "on_lookup", "", || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        });
    });
}

#[test]
fn perf_events() {
    needs_root!();
    const PERF: &str = counting!("SEC(\"perf_event\") int on_tick(void *ctx) { return count(); }");
    let work = || {
        let end = std::time::Instant::now() + std::time::Duration::from_millis(300);
        while std::time::Instant::now() < end {
            std::hint::black_box(0);
        }
    };
    fires(PERF, "on_tick", "", work);
    fires(
        PERF,
        "on_tick",
        r#"{"perf_event":{"type":"software","config":"cpu-clock","period":1000000}}"#,
        work,
    );
    fires(PERF, "on_tick", r#"{"perf_event":{"config":"context-switches","period":1}}"#, || {
        (0..20).for_each(|_| std::thread::sleep(std::time::Duration::from_millis(1)));
    });
    let own = format!("{{\"pid\":{},\"perf_event\":{{\"frequency\":1000}}}}", tid());
    fires(PERF, "on_tick", &own, work);
}

#[test]
fn congestion_control_by_struct_ops() {
    needs_root!();
    const OPS: &str = counting!(
        r#"
SEC("struct_ops/start")
void BPF_PROG(start, struct sock *sk)
{
    count();
}

SEC("struct_ops/ssthresh")
u32 BPF_PROG(ssthresh, struct sock *sk)
{
    return 10;
}

SEC("struct_ops/cong_avoid")
void BPF_PROG(cong_avoid, struct sock *sk, u32 ack, u32 acked)
{
}

SEC("struct_ops/undo_cwnd")
u32 BPF_PROG(undo_cwnd, struct sock *sk)
{
    return 10;
}

SEC(".struct_ops.link")
struct tcp_congestion_ops slow_start = {
    .init = (void *)start,
    .ssthresh = (void *)ssthresh,
    .cong_avoid = (void *)cong_avoid,
    .undo_cwnd = (void *)undo_cwnd,
    .name = "eunomia_test",
};
"#
    );
    let package = package(OPS);
    let clean = Clean::new();
    let vm = attached(&package);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let name = "eunomia_test";
    // SAFETY: `name` has the given length.
    let set = unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION, name.as_ptr().cast(), name.len() as u32)
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    assert!(hits(&vm) > 0);
    drop((stream, listener));
    vm.detach().unwrap();
    vm.attach().unwrap();
    drop(vm);
    drop(clean);
}

#[test]
fn sections_with_a_question_mark_are_not_loaded_by_default() {
    needs_root!();
    const OPTIONAL: &str = counting!(
        r#"
SEC("tp/syscalls/sys_enter_getpgid")
int always(void *ctx)
{
    return is_ours() ? count() : 0;
}

SEC("?tp/syscalls/sys_exit_getpgid")
int on_demand(void *ctx)
{
    return is_ours() ? count() : 0;
}

SEC("?fentry/nothing_at_all")
int impossible(void *ctx)
{
    return 0;
}
"#
    );
    let package = package(OPTIONAL);
    let clean = Clean::new();
    for (asked, expected) in [(false, 1), (true, 2)] {
        let vm = opened(&package);
        vm.var_set_json("only_tid", &tid().to_string()).unwrap();
        assert!(!vm.prog_find("on_demand").unwrap().autoload);
        vm.prog_set_autoload("on_demand", asked).unwrap();
        vm.attach().unwrap();
        assert_eq!(vm.prog_find("on_demand").unwrap().attached, asked);
        assert!(!vm.prog_find("impossible").unwrap().loaded);
        call(1);
        assert_eq!(hits(&vm), expected);
    }
    drop(clean);
}

#[test]
fn programs_that_the_host_runs_are_loaded_and_not_attached() {
    needs_root!();
    const SYSCALL: &str = counting!("SEC(\"syscall\") int on_demand(void *ctx) { return count(); }");
    let package = package(SYSCALL);
    let clean = Clean::new();
    let vm = attached(&package);
    let info = vm.prog_find("on_demand").unwrap();
    assert!(info.loaded && !info.attached && info.id > 0);
    drop(vm);
    drop(clean);
}
