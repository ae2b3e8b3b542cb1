//! Events of every type and from many sources at once. The counters add up in each case.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use eunomia::{EventKind, Flow, Format, Kind, Options, Status, Vm};
use serde_json::{Value, json};

use crate::fixture::{
    Clean, Seen, call, drain, edited, events, load_refused, object, package, refused, stay_on_this_cpu, tid,
};
use crate::needs_root;
use crate::support::{opened, vm, vm_with};

/// A source with these lines, which reports calls of one thread.
macro_rules! source {
    ($lines:literal) => {
        crate::fixture::source!(
            "const volatile u32 only_tid = 0;\n",
            "static bool is_ours(void) { return (u32)bpf_get_current_pid_tgid() == only_tid; }\n",
            $lines
        )
    };
}

/// Opens a package for calls of this thread only.
fn own(package: &[u8]) -> Vm {
    own_with(package, Options::new())
}

fn own_with(package: &[u8], options: Options) -> Vm {
    let (vm, _log) = vm_with(options);
    vm.open(package, Kind::Json).unwrap();
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    vm
}

const EVERY_TYPE: &str = source!(
    r#"
#define NAN_BITS 0x7ff8000000000000ULL
#define INF_BITS 0xff800000U
enum color { RED, GREEN = 5, BLUE = -7 };
enum level { LOW = 1, HIGH = 4000000000U };
typedef struct { s8 x; s16 y; } point;
struct inner { point at; u8 flags : 3; u8 : 2; u8 rest : 3; };
union either { u32 number; u8 bytes[4]; };
struct all {
    u8 a8; s8 b8; u16 a16; s16 b16; u32 a32; s32 b32; u64 a64; s64 b64;
    unsigned __int128 a128; __int128 b128;
    bool yes, no;
    char letter; char name[8]; char full[4]; char rows[2][4];
    float single; double twice; double nan; float infinite;
    enum color color, unknown; enum level level;
    u32 one : 1, five : 5; s32 minus : 4; u64 long_one : 40;
    u16 matrix[2][3]; point corners[2]; u8 mac[6];
    struct inner inner; union either either;
    struct { u32 within; union { u16 low; u32 whole; }; };
    void *pointer; long word; __be16 port;
    volatile u32 qualified;
    struct { u8 narrow; u32 wide; } __attribute__((packed)) tight;
};

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } ring SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} perf SEC(".maps");
struct all event = {
    .a8 = 255, .b8 = -128, .a16 = 65535, .b16 = -32768, .a32 = 4294967295U, .b32 = -2147483648,
    .a64 = 18446744073709551615ULL, .b64 = -9223372036854775807LL - 1,
    .a128 = ~(unsigned __int128)0, .b128 = -1,
    .yes = true, .letter = 'A', .name = "q\"\\\n\x01", .full = {'f', 'u', 'l', 'l'}, .rows = {"one", "two"},
    .single = 1.5, .twice = -0.1,
    .color = BLUE, .unknown = 77, .level = HIGH,
    .one = 1, .five = 21, .minus = -8, .long_one = 0xfedcba9876ULL,
    .matrix = {{1, 2, 3}, {4, 5, 6}}, .corners = {{-1, -2}, {3, 4}}, .mac = {1, 2, 3, 4, 5, 255},
    .inner = {.at = {7, 8}, .flags = 5, .rest = 6}, .either = {.number = 0x04030201},
    .within = 9, .whole = 0x20001, .pointer = (void *)0x1234, .word = -5, .port = 0x5000, .qualified = 3,
    .tight = {1, 0x01020304},
};

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    if (!is_ours())
        return 0;
    *(u64 *)&event.nan = NAN_BITS;
    *(u32 *)&event.infinite = INF_BITS;
    struct all *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
    if (record) {
        *record = event;
        bpf_ringbuf_submit(record, 0);
    }
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return 0;
}
"#
);

#[test]
fn every_type_of_c_arrives_as_json() {
    needs_root!();
    let package = package(EVERY_TYPE);
    let clean = Clean::new();
    let vm = own(&package);
    vm.attach().unwrap();
    call(1);
    let seen = events(&vm, Format::Json, 2);
    // Large numbers are compared as text: a parser may round them.
    let expected = concat!(
        r#"{"a8":255,"b8":-128,"a16":65535,"b16":-32768,"a32":4294967295,"b32":-2147483648,"#,
        r#""a64":18446744073709551615,"b64":-9223372036854775808,"#,
        r#""a128":"340282366920938463463374607431768211455","b128":"-1","yes":true,"no":false,"#,
        r#""letter":65,"name":"q\"\\\n\u0001","full":"full","rows":["one","two"],"#,
        r#""single":1.5,"twice":-0.1,"nan":null,"infinite":null,"#,
        r#""color":"BLUE","unknown":77,"level":"HIGH","one":1,"five":21,"minus":-8,"long_one":1094624909430,"#,
        r#""matrix":[[1,2,3],[4,5,6]],"corners":[{"x":-1,"y":-2},{"x":3,"y":4}],"mac":[1,2,3,4,5,255],"#,
        r#""inner":{"at":{"x":7,"y":8},"flags":5,"rest":6},"either":{"number":67305985,"bytes":[1,2,3,4]},"#,
        r#""within":9,"low":1,"whole":131073,"pointer":4660,"word":-5,"port":20480,"qualified":3,"#,
        r#""tight":{"narrow":1,"wide":16909060}}"#
    );
    for event in &seen {
        assert_eq!(event.text(), expected, "{}", event.source);
    }
    // The same as a row of a table: one column for each member, structs as compact JSON.
    call(1);
    let lines = events(&vm, Format::Text, 2);
    let (head, row) = (lines[0].text(), lines[1].text());
    assert!(head.starts_with("TIME     A8     B8     A16    B16    "), "{head}");
    for column in
        ["q\"\\\\n\\u0001", "BLUE", "{\"x\":-1,\"y\":-2}", "-9223372036854775808", "[[1,2,3],[4,5,6]]"]
    {
        assert!(row.contains(column), "{column:?} not in {row}");
    }
    drop(vm);
    drop(clean);
}

/// Sends the first `len` bytes of an event through the map `which`.
const PREFIX: &str = source!(
    r#"
struct event { u64 first; u32 second; char text[8]; u16 tail[4]; u64 last; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } ring SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} perf SEC(".maps");
u32 len = 0;
struct { struct event event; char more[40]; } buffer = {};
struct event *unused_event __attribute__((unused));

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    if (!is_ours())
        return 0;
    __builtin_memset(&buffer, 0x41, sizeof(buffer));
    u64 size = len & 63;
    bpf_ringbuf_output(&ring, &buffer, size, 0);
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &buffer, size);
    return 0;
}
"#
);

#[test]
fn a_short_event_reads_as_zero_beyond_its_end() {
    needs_root!();
    let package = edited(&package(PREFIX), |document| {
        document["meta"]["export_types"] = json!([{"name": "event", "size": 40, "members": []}]);
        let maps = document["meta"]["bpf_skel"]["maps"].as_array_mut().unwrap();
        maps.iter_mut().for_each(|map| drop(map.as_object_mut().unwrap().remove("export_config")));
    });
    let full = json!({
        "first": 0x4141_4141_4141_4141_u64, "second": 0x4141_4141, "text": "AAAAAAAA",
        "tail": [0x4141, 0x4141, 0x4141, 0x4141], "last": 0x4141_4141_4141_4141_u64
    });
    let with = |changes: Value| {
        let mut event = full.clone();
        event.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        event
    };
    let no_tail = json!({"tail": [0, 0, 0, 0], "last": 0});
    let no_text = json!({"text": "", "tail": [0, 0, 0, 0], "last": 0});
    let cases = [
        (0, with(json!({"first": 0, "second": 0, "text": "", "tail": [0, 0, 0, 0], "last": 0}))),
        (3, with(json!({"first": 0x41_4141, "second": 0, "text": "", "tail": [0, 0, 0, 0], "last": 0}))),
        (12, with(no_text)),
        (20, with(no_tail)),
        (15, with(json!({"text": "AAA", "tail": [0, 0, 0, 0], "last": 0}))),
        (23, with(json!({"tail": [0x4141, 0x41, 0, 0], "last": 0}))),
        (40, full.clone()),
        (60, full.clone()),
    ];
    let clean = Clean::new();
    // One of two buffers at a time, so that the only type of the package is that of its events.
    for (map, other) in [("ring", "perf"), ("perf", "ring")] {
        let single = edited(&package, |document| {
            let maps = document["meta"]["bpf_skel"]["maps"].as_array_mut().unwrap();
            let entry = maps.iter_mut().find(|entry| entry["name"] == other).unwrap();
            entry["export_config"] = "no_export".into();
        });
        let vm = own(&single);
        vm.attach().unwrap();
        for (len, expected) in &cases {
            // The kernel rounds a perf record up to 4 bytes beyond a multiple of 8, and does not report by how much.
            if map == "perf" && len % 8 != 4 && *len < 40 {
                continue;
            }
            vm.var_set_json("len", &len.to_string()).unwrap();
            call(1);
            let event = events(&vm, Format::Json, 1).remove(0);
            assert_eq!((&*event.source, &event.json()), (map, expected), "{len} bytes");
            call(1);
            let raw = events(&vm, Format::Raw, 1).remove(0);
            let padding = if map == "perf" { 0..8 } else { 0..1 };
            assert!(padding.contains(&(raw.data.len() - len)), "{} for {len} bytes", raw.data.len());
            assert!(raw.data[..*len].iter().all(|byte| *byte == 0x41));
        }
        assert_eq!(vm.stats().malformed, 0);
        drop(vm);
    }
    drop(clean);
}

/// Sends `count` events per call through each of the selected maps.
const FLOOD: &str = source!(
    r#"
struct event { u64 seq; char filler[56]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 22); } flooded SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } calm SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} perf SEC(".maps");
u64 to_flooded = 0, to_calm = 0, to_perf = 0;
u64 seq = 0;
static struct event event;

static long one_to_flooded(u32 index, void *ctx)
{
    struct event *event = bpf_ringbuf_reserve(&flooded, sizeof(*event), 0);
    if (event) {
        event->seq = seq++;
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}

static long one_to_calm(u32 index, void *ctx)
{
    struct event *event = bpf_ringbuf_reserve(&calm, sizeof(*event), 0);
    if (event) {
        event->seq = seq++;
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    if (!is_ours())
        return 0;
    bpf_loop(to_flooded, one_to_flooded, 0, 0);
    bpf_loop(to_calm, one_to_calm, 0, 0);
    for (int i = 0; i < 64; i++)
        if (i < to_perf)
            bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return 0;
}
"#
);

fn counted(vm: &Vm, budget_of_polls: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..budget_of_polls {
        vm.poll(Some(Duration::ZERO), Format::Raw, |event| {
            *counts.entry(event.source.to_string_lossy().into_owned()).or_default() += 1;
            Flow::Continue
        })
        .unwrap();
    }
    counts
}

#[test]
fn a_flooded_ring_does_not_starve_the_others() {
    needs_root!();
    let package = package(FLOOD);
    let clean = Clean::new();
    let vm = own_with(&package, Options::new().poll_budget(4000));
    vm.var_set_json("to_flooded", "50000").unwrap();
    vm.var_set_json("to_calm", "5").unwrap();
    vm.var_set_json("to_perf", "5").unwrap();
    vm.attach().unwrap();
    call(1);
    for round in 1..4 {
        // The flooded ring always has more events than a poll reads, and each poll still reads the other sources.
        let counts = counted(&vm, 1);
        let flooded = counts["flooded"];
        assert!((3000..4000).contains(&flooded), "{counts:?}");
        assert_eq!((counts["calm"], counts["perf"]), (5, 5), "round {round}");
        call(1);
    }
    drop(vm);
    drop(clean);
}

#[test]
fn every_event_lost_by_a_stalled_consumer_is_counted() {
    needs_root!();
    stay_on_this_cpu();
    let package = package(FLOOD);
    let clean = Clean::new();
    let vm = own_with(&package, Options::new().perf_pages(4));
    for (variable, per_call, calls) in [("to_calm", 10, 200), ("to_flooded", 20_000, 10), ("to_perf", 64, 30)]
    {
        vm.var_set_json(variable, &per_call.to_string()).unwrap();
        let before = vm.stats();
        if variable == "to_calm" {
            vm.attach().unwrap();
        }
        call(calls);
        let mut drained = drain(&vm) as u64;
        // The kernel reports what a perf buffer lost with the next record that fits.
        call(1);
        drained += drain(&vm) as u64;
        let stats = vm.stats();
        let produced = per_call * (calls as u64 + 1);
        assert!(stats.lost_kernel > before.lost_kernel, "{variable}: nothing was lost: {stats:?}");
        assert_eq!(stats.events - before.events, drained, "{variable}");
        let accounted = drained + stats.lost_kernel - before.lost_kernel;
        assert_eq!(accounted, produced, "{variable}: {stats:?}");
        vm.var_set_json(variable, "0").unwrap();
    }
    let perf = (0..3)
        .map(|index| vm.source_at(index).unwrap())
        .find(|source| source.name.to_bytes() == b"perf")
        .unwrap();
    assert!(perf.lost > 0);
    drop(vm);
    drop(clean);
}

/// Whether the vm's descriptor is readable for a host with its own event loop.
fn readable(vm: &Vm) -> bool {
    let mut fd = libc::pollfd { fd: vm.epoll_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the array has one entry, which is the length that is passed.
    unsafe { libc::poll(&mut fd, 1, 0) == 1 }
}

#[test]
fn a_host_with_its_own_loop_gets_every_perf_event() {
    needs_root!();
    let package = package(FLOOD);
    let vm = own_with(&package, Options::new().poll_budget(3));
    vm.var_set_json("to_perf", "1").unwrap();
    vm.attach().unwrap();
    let poll = || vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue).unwrap();
    let all = || {
        let mut count = 0;
        while readable(&vm) && count < 1000 {
            count += poll();
        }
        count
    };
    for _ in 0..20 {
        call(1);
        assert_eq!((readable(&vm), poll()), (true, 1));
        assert_eq!((all(), poll()), (0, 0));
    }

    call(10);
    assert_eq!([poll(), poll(), poll(), poll(), poll()], [3, 3, 3, 1, 0], "what a budget leaves behind");
    call(10);
    assert_eq!(all(), 10);

    call(2);
    assert_eq!(vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::End).unwrap(), 1);
    assert_eq!(all(), 1, "what a callback leaves behind");

    call(2);
    vm.stop();
    assert_eq!(
        vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue).unwrap_err().status(),
        Status::Stopped
    );
    assert_eq!(all(), 2, "what a stop leaves behind");

    vm.pause(true).unwrap();
    call(2);
    assert_eq!((readable(&vm), poll()), (false, 0));
    vm.pause(false).unwrap();
    assert_eq!(all(), 2, "what came while paused");

    call(2);
    vm.queue_start(0).unwrap();
    assert_eq!(
        vm.poll(Some(Duration::from_secs(10)), Format::Raw, |_| Flow::Continue).unwrap(),
        2,
        "what came before the queue"
    );
    vm.pause(true).unwrap();
    call(2);
    vm.queue_stop().unwrap();
    vm.pause(false).unwrap();
    assert_eq!(all(), 2, "what came while the queue was paused");
    assert_eq!(vm.stats().events, 20 + 10 + 10 + 2 + 2 + 2 + 2 + 2);
}

#[test]
fn an_unbounded_queue_is_refused() {
    needs_root!();
    let vm = own_with(&package(FLOOD), Options::new());
    vm.attach().unwrap();
    refused(vm.queue_start(usize::MAX), Status::Inval, &["queue", "1073741824"]);
}

#[test]
fn a_source_counts_what_was_delivered_not_what_was_queued() {
    needs_root!();
    let vm = own_with(&package(FLOOD), Options::new());
    vm.var_set_json("to_perf", "8").unwrap();
    vm.attach().unwrap();
    vm.queue_start(0).unwrap();
    call(5);
    let delivered = || (0..3).map(|index| vm.source_at(index).unwrap().events).sum::<u64>();
    assert_eq!(delivered(), 0);
    let mut count = 0;
    while count < 40 {
        count += vm.poll(Some(Duration::from_secs(10)), Format::Raw, |_| Flow::Continue).unwrap();
    }
    assert_eq!(delivered(), 40);
}

#[test]
fn lost_perf_events_are_reported_as_they_occur() {
    needs_root!();
    stay_on_this_cpu();
    let package = package(FLOOD);
    let clean = Clean::new();
    let vm = own_with(&package, Options::new().perf_pages(1));
    vm.var_set_json("to_perf", "64").unwrap();
    vm.attach().unwrap();
    call(10);
    drain(&vm);
    call(1);
    let mut told = 0;
    for format in [Format::Json, Format::Text] {
        call(10);
        vm.poll(Some(Duration::from_millis(100)), format, |_| Flow::Continue).unwrap();
        call(1);
        vm.poll(Some(Duration::from_millis(100)), format, |event| {
            if event.kind == EventKind::Lost {
                told += event.lost;
                let text = std::str::from_utf8(event.data).unwrap();
                assert!(text.contains(&event.lost.to_string()) && text.contains("lost"), "{text}");
                assert!(event.cpu >= 0);
            }
            Flow::Continue
        })
        .unwrap();
    }
    assert!(told > 0);
    drop(vm);
    drop(clean);
}

const SAMPLED: &str = source!(
    r#"
struct hist { u32 total; u32 slots[8]; };
struct event { u64 seq; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } ring SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} perf SEC(".maps");
/// @sample {"interval": 20, "clear_map": true}
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4096); __type(key, u32); __type(value, u64); } cleared SEC(".maps");
/// @sample {"interval": 20, "clear_map": false}
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4096); __type(key, u32); __type(value, u64); } kept SEC(".maps");
/// @sample {"interval": 20, "clear_map": true}
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3); __type(key, u32); __type(value, u64); } array SEC(".maps");
/// @sample {"interval": 20, "type": "log2_hist", "unit": "msecs"}
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 64); __type(key, u32); __type(value, struct hist); } hists SEC(".maps");
/// @sample {"interval": 20}
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, u32); } per_cpu SEC(".maps");
/// @sample {"interval": 20, "clear_map": true}
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 4096); __type(key, u32); __type(value, u64); } recent SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    if (!is_ours())
        return 0;
    struct event event = {.seq = 1};
    bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return 0;
}
"#
);

/// The events of each source in `rounds` rounds of the map `round_of`; Round events count as empty.
fn rounds(vm: &Vm, format: Format, round_of: &str, rounds: usize) -> BTreeMap<String, Vec<Seen>> {
    let mut seen: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut left = rounds;
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} rounds of {round_of} are missing");
        vm.poll(Some(Duration::from_millis(100)), format, |event| {
            let source = event.source.to_string_lossy().into_owned();
            if event.kind == EventKind::Round && source == round_of {
                left = left.saturating_sub(1);
            }
            let event = Seen {
                kind: event.kind,
                source: source.clone(),
                data: event.data.to_vec(),
                key: event.key.to_vec(),
            };
            seen.entry(source).or_default().push(event);
            Flow::Continue
        })
        .unwrap();
    }
    seen
}

#[test]
fn sampled_maps_of_every_kind_are_read_beside_rings() {
    needs_root!();
    let package = package(SAMPLED);
    let clean = Clean::new();
    let vm = own(&package);
    vm.attach().unwrap();
    assert_eq!(vm.source_count().unwrap(), 8);
    let fill = || {
        for key in 0..1000 {
            for map in ["cleared", "kept", "recent"] {
                vm.map_set_json(map, &key.to_string(), "7", 0).unwrap();
            }
        }
        vm.map_set_json("array", "1", "5", 0).unwrap();
        vm.map_set_json("per_cpu", "0", "3", 0).unwrap();
        vm.map_set_json("hists", "9", r#"{"total":4,"slots":[0,1,2,3]}"#, 0).unwrap();
    };
    fill();
    call(3);
    let seen = rounds(&vm, Format::Json, "recent", 2);
    let entries =
        |map: &str| seen[map].iter().filter(|event| event.kind == EventKind::MapEntry).collect::<Vec<_>>();
    let round_count = |map: &str| seen[map].iter().filter(|event| event.kind == EventKind::Round).count();
    assert_eq!(seen["ring"].len(), 3);
    assert_eq!(seen["perf"].len(), 3);
    assert_eq!(entries("cleared").len(), 1000);
    assert_eq!(entries("recent").len(), 1000);
    assert_eq!(entries("kept").len(), 1000 * round_count("kept"));
    assert_eq!(entries("array").len(), 3 * round_count("array"));
    let cpus = vm.map_find("per_cpu").unwrap().cpus as usize;
    let threes = format!("{{\"key\":0,\"value\":[{}]}}", vec!["3"; cpus].join(","));
    assert!(entries("per_cpu").iter().all(|event| event.text() == threes));
    let hist = entries("hists")[0].json();
    assert_eq!(hist["value"].as_array().unwrap().len(), cpus);
    assert_eq!(hist["value"][0]["slots"], json!([0, 1, 2, 3, 0, 0, 0, 0]));
    let keys: std::collections::BTreeSet<&[u8]> =
        entries("cleared").iter().map(|event| &*event.key).collect();
    assert_eq!(keys.len(), 1000);
    let zeros = entries("array").iter().filter(|event| event.text() == r#"{"key":1,"value":0}"#).count();
    assert_eq!(zeros + 1, round_count("array"), "the array was not set to zero after the first round");

    // In the format TEXT, a histogram is the sum of the values of all CPUs.
    let text = rounds(&vm, Format::Text, "hists", 1);
    let hist =
        text["hists"].iter().find(|event| event.kind == EventKind::MapEntry).unwrap().text().to_owned();
    assert!(hist.starts_with("key = 9\n") && hist.contains("msecs"), "{hist}");
    let counts: Vec<usize> =
        hist.lines().filter_map(|line| line.split([':', '|']).nth(1)?.trim().parse().ok()).collect();
    assert_eq!(counts, [0, cpus, 2 * cpus, 3 * cpus], "{hist}");

    // The maps that are not cleared keep all entries; the others are empty.
    assert_eq!(vm.map_each("kept", Format::Raw, |_| Flow::Continue).unwrap(), 1000);
    assert_eq!(vm.map_each("cleared", Format::Raw, |_| Flow::Continue).unwrap(), 0);
    assert_eq!(vm.map_each("recent", Format::Raw, |_| Flow::Continue).unwrap(), 0);
    drop(vm);
    drop(clean);
}

const LARGE: &str = source!(
    r#"
struct event { u64 seq; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } ring SEC(".maps");
/// @sample {"interval": 1}
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 100000); __type(key, u32); __type(value, u64); } large SEC(".maps");
u64 filled = 0;

static long fill_one(u32 index, void *ctx)
{
    u64 value = index;
    return bpf_map_update_elem(&large, &index, &value, 0) != 0;
}

SEC("tp/syscalls/sys_exit_getpgid")
int fill(void *ctx)
{
    if (is_ours() && !filled)
        filled = bpf_loop(100000, fill_one, 0, 0);
    return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    if (!is_ours())
        return 0;
    struct event event = {.seq = 1};
    bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
    return 0;
}
"#
);

#[test]
fn a_large_sampled_map_does_not_delay_a_ring() {
    needs_root!();
    let package = package(LARGE);
    let clean = Clean::new();
    let vm = own(&package);
    vm.attach().unwrap();
    call(1);
    assert_eq!(vm.var_get_json("filled").unwrap(), "100000");
    vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::End).unwrap();
    // An event that is sent during a round is delivered long before the round ends.
    let (mut entries, mut since_call, mut longest, mut delivered) = (0_usize, None, 0, 0);
    while delivered < 20 {
        vm.poll(Some(Duration::from_millis(100)), Format::Raw, |event| {
            match (event.kind, &mut since_call) {
                (EventKind::MapEntry, Some(since)) => {
                    entries += 1;
                    *since += 1;
                }
                (EventKind::MapEntry, None) => {
                    entries += 1;
                    if entries % 997 == 0 {
                        call(1);
                        since_call = Some(0);
                    }
                }
                (EventKind::Sample, since) => {
                    longest = longest.max(since.take().unwrap_or(0));
                    delivered += 1;
                }
                _ => {}
            }
            Flow::Continue
        })
        .unwrap();
    }
    assert!(longest < 2000, "{longest} entries of the map came before an event of the ring");
    drop(vm);
    drop(clean);
}

#[test]
fn a_map_without_keys_cannot_be_sampled_or_iterated() {
    needs_root!();
    const SOURCE: &str = source!(
        r#"
/// @sample {"interval": 10}
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 8); __type(value, u32); } queue SEC(".maps");
SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    u32 value = 7;
    if (is_ours())
        bpf_map_push_elem(&queue, &value, 0);
    return 0;
}
"#
    );
    let good = package(SOURCE);
    let clean = Clean::new();
    load_refused(&own(&good), &clean, Status::Package, &["map \"queue\"", "no keys"]);
    let vm = own(&edited(&good, |document| {
        document["meta"]["bpf_skel"]["maps"][0].as_object_mut().unwrap().remove("sample");
    }));
    vm.attach().unwrap();
    call(2);
    let walked = vm.map_each("queue", Format::Json, |_| Flow::Continue);
    refused(walked, Status::Unsupported, &["map \"queue\"", "does not support it"]);
    drop(vm);
    drop(clean);
}

#[test]
fn an_unreadable_sampled_map_is_named_and_delays_no_other() {
    needs_root!();
    const SOURCE: &str = source!(
        r#"
/// @sample {"interval": 20}
struct { __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, u32); } groups SEC(".maps");
/// @sample {"interval": 20}
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, u32); } good SEC(".maps");
SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    return is_ours() ? bpf_current_task_under_cgroup(&groups, 0) & 0 : 0;
}
"#
    );
    let package = package(SOURCE);
    let clean = Clean::new();
    let vm = own(&package);
    vm.attach().unwrap();
    let (mut failed, mut came) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(20);
    while failed < 3 || came < 3 {
        assert!(Instant::now() < deadline, "{failed} failures, {came} events of the other map");
        match vm.poll(Some(Duration::from_secs(1)), Format::Json, |_| Flow::Continue) {
            Ok(count) => came += count,
            failure => {
                refused(failure, Status::Unsupported, &["map \"groups\"", "does not support it"]);
                failed += 1;
            }
        }
    }
    drop(vm);
    drop(clean);
}

const TWO_STRUCTS: &str = source!(
    r#"
struct opened { u32 pid; char name[12]; };
struct closed { u64 count; u64 time; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } ring SEC(".maps");
struct opened *unused_opened __attribute__((unused));
struct closed *unused_closed __attribute__((unused));
u32 len = 16;

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    union { struct opened event; char room[32]; } event = {.event = {.pid = 7, .name = "seven"}};
    if (is_ours())
        bpf_ringbuf_output(&ring, &event, len & 31, 0);
    return 0;
}
"#
);

const ONE_STRUCT: &str = source!(
    r#"
struct opened { u32 pid; char name[12]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } ring SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    struct opened event = {.pid = 7, .name = "seven"};
    if (is_ours())
        bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
    return 0;
}
"#
);

/// The package without the types of events.
fn untold(package: &[u8]) -> Vec<u8> {
    edited(package, |document| {
        document["meta"].as_object_mut().unwrap().remove("export_types");
        let maps = document["meta"]["bpf_skel"]["maps"].as_array_mut().unwrap();
        maps.iter_mut().for_each(|map| drop(map.as_object_mut().unwrap().remove("export_config")));
    })
}

#[test]
fn the_only_matching_struct_is_the_type() {
    needs_root!();
    let package = untold(&package(ONE_STRUCT));
    let clean = Clean::new();
    for whole in [true, false] {
        let vm = vm();
        if whole {
            vm.open(&package, Kind::Json).unwrap();
        } else {
            vm.open_object(&object(&package), None).unwrap();
        }
        vm.var_set_json("only_tid", &tid().to_string()).unwrap();
        vm.attach().unwrap();
        call(1);
        assert_eq!(events(&vm, Format::Json, 1)[0].text(), r#"{"pid":7,"name":"seven"}"#);
    }
    drop(clean);
}

const TYPED_RING: &str = source!(
    r#"
struct opened { u32 pid; char name[12]; };
struct closed { u64 count; u64 time; };
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 65536);
    __type(key, u32);
    __type(value, struct opened);
} ring SEC(".maps");
struct closed *unused_closed __attribute__((unused));

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
    struct opened event = {.pid = 7, .name = "seven"};
    if (is_ours())
        bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
    return 0;
}
"#
);

#[test]
fn a_ring_may_name_the_type_of_its_records() {
    needs_root!();
    let package = untold(&package(TYPED_RING));
    let clean = Clean::new();
    let vm = own(&package);
    vm.attach().unwrap();
    call(1);
    assert_eq!(events(&vm, Format::Json, 1)[0].text(), r#"{"pid":7,"name":"seven"}"#);
    drop(vm);
    drop(clean);
}

#[test]
fn with_several_matching_structs_records_are_raw_and_the_log_has_one_warning() {
    needs_root!();
    let package = untold(&package(TWO_STRUCTS));
    let clean = Clean::new();
    let (vm, log) = vm_with(Options::new());
    vm.open(&package, Kind::Json).unwrap();
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    vm.attach().unwrap();
    call(2);
    let hex = r#"{"data":"07000000736576656e00000000000000"}"#;
    assert!(events(&vm, Format::Json, 2).iter().all(|event| event.text() == hex));
    call(1);
    let lines = events(&vm, Format::Text, 1);
    assert!(lines.last().unwrap().text().contains("07000000736576656e00000000000000"), "{lines:?}");
    vm.detach().unwrap();
    vm.attach().unwrap();
    let lines = log.lock().unwrap();
    let told: Vec<_> = lines.iter().filter(|line| line.contains("candidates")).collect();
    assert_eq!(told.len(), 1, "{lines:?}");
    assert!(
        told[0].contains("\"ring\"") && told[0].contains("opened") && told[0].contains("closed"),
        "{told:?}"
    );
    drop((vm, lines));
    drop(clean);
}

#[test]
fn the_package_specifies_the_type_even_if_it_is_wrong() {
    needs_root!();
    let good = package(TWO_STRUCTS);
    let clean = Clean::new();
    let with_config = |config: Value| {
        edited(&untold(&good), |document| {
            let maps = document["meta"]["bpf_skel"]["maps"].as_array_mut().unwrap();
            maps.iter_mut().find(|map| map["name"] == "ring").unwrap()["export_config"] = config;
        })
    };
    let with_types =
        |types: Value| edited(&untold(&good), |document| document["meta"]["export_types"] = types);
    let first_event = |package: &[u8]| {
        let vm = own(package);
        vm.attach().unwrap();
        call(1);
        events(&vm, Format::Json, 1)[0].json()
    };
    let opened_event = json!({"pid": 7, "name": "seven"});
    let raw = json!({"data": "07000000736576656e00000000000000"});
    assert_eq!(
        first_event(&with_types(json!([{"name": "opened", "size": 16, "members": []}]))),
        opened_event
    );
    // If no struct has the name, the events are delivered raw. If the id is that of another struct, the name takes
    // precedence.
    assert_eq!(first_event(&with_types(json!([{"name": "nobody", "size": 16, "members": []}]))), raw);
    let by_name = json!([{"name": "opened", "size": 16, "type_id": 1, "members": []}]);
    assert_eq!(first_event(&with_types(by_name)), opened_event);
    assert_eq!(first_event(&with_config("default".into())), raw);

    let refuse = |config: Value, words: &[&str]| {
        let vm = opened(&with_config(config));
        load_refused(&vm, &clean, Status::Package, words);
    };
    refuse(json!({"btf_type_id": 100_000}), &["map \"ring\"", "100000"]);
    let member = |id: u32, offset: u32| json!({"custom_members": [{"name": "x", "offset": offset, "btf_type_id": id}]});
    refuse(member(100_000, 0), &["map \"ring\"", "100000"]);
    refuse(member(1, u32::MAX), &["map \"ring\""]);
    let off = edited(&good, |document| {
        let maps = document["meta"]["bpf_skel"]["maps"].as_array_mut().unwrap();
        maps.iter_mut().for_each(|map| map["export_config"] = "no_export".into());
    });
    let vm = own(&off);
    vm.attach().unwrap();
    assert_eq!(vm.source_count().unwrap(), 0);
    drop(vm);
    drop(clean);
}
