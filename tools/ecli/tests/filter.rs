//! `--filter` against records from the kernel: values as they are shown, and records of several types.

mod support;

use std::process::Stdio;

use support::{Ran, ecli};

/// A package whose events, at each getpgid(2), have a value of each format. Processes whose name is `other` send another
/// record.
fn formats() -> tempfile::TempDir {
    support::compile(
        r#"#include "vmlinux.h"
        #include <bpf/bpf_helpers.h>
        enum how_it_is { IT_IS_IDLE, IT_IS_BUSY };
        struct event {
            __be32 ip;          ///< @format ipv4
            struct in6_addr v6;
            struct in_addr v4;
            u64 t;              ///< @format ktime
            int err;            ///< @format errno
            u32 code;           ///< @format errno
            u8 sig;             ///< @format signal
            u64 d;              ///< @format duration
            u8 mac[6];          ///< @format mac
            u16 hx;             ///< @format hex
            s32 bits;           ///< @format hex
            u8 digest[3];       ///< @format hex
            u64 sc;             ///< @format syscall
            enum how_it_is state;
            char comm[16];
        };
        struct other { int ret; ///< @format errno
            char comm[16]; };
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } events SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } others SEC(".maps");
        SEC("tracepoint/syscalls/sys_enter_getpgid") int called(void *ctx) {
            struct event e = {};
            struct other o = {};
            e.ip = 0x0100007f;
            e.v4.s_addr = 0x0201a8c0;
            e.v6.in6_u.u6_addr8[10] = e.v6.in6_u.u6_addr8[11] = 0xff;
            e.v6.in6_u.u6_addr8[12] = 10;
            e.v6.in6_u.u6_addr8[15] = 1;
            e.t = bpf_ktime_get_ns();
            e.err = -13;
            e.code = 2;
            e.sig = 15;
            e.d = 1500123;
            e.mac[0] = 2;
            e.mac[5] = 0xab;
            e.hx = 0xff;
            e.bits = -1;
            e.digest[1] = 0xbe;
            e.sc = 59;
            e.state = IT_IS_BUSY;
            bpf_get_current_comm(e.comm, sizeof(e.comm));
            bpf_ringbuf_output(&events, &e, sizeof(e), 0);
            o.ret = -2;
            bpf_get_current_comm(o.comm, sizeof(o.comm));
            bpf_ringbuf_output(&others, &o, sizeof(o), 0);
            return 0;
        }
        char LICENSE[] SEC("license") = "GPL";"#,
    )
}

/// Runs a package until `count` events are shown, while this process makes system calls.
fn filtered(folder: &tempfile::TempDir, args: &[&str], filter: &str) -> Ran {
    let path = folder.path().join("package.json");
    let mut child = ecli(&[&["run", "--duration", "20", "--filter", filter], args].concat())
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ecli starts");
    while child.try_wait().expect("ecli is there").is_none() {
        let _ = rustix::process::getpgid(None);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.wait_with_output().expect("ecli ends").into()
}

const TRUE: [&str; 44] = [
    "ip == \"127.0.0.1\"",
    "ip == 127.0.0.0/8",
    "ip != 10.0.0.0/8",
    "ip > 126.255.255.255 && ip <= 127.0.0.1",
    "ip == 16777343",
    "ip =~ \"^127\"",
    "v4 == 192.168.0.0/16",
    "v4 == 192.168.1.2",
    "v4",
    "v6 == ::ffff:10.0.0.1",
    "v6 == 10.0.0.0/24",
    "v6 == ::/64",
    "v6 != 2001:db8::/32",
    "v6",
    "t > 2020-01-01",
    "t < 2100-01-01T00:00:00Z",
    "t > 2020-01-01T12:00 && t > \"2020-01-01T12:00:00+02:00\"",
    "t =~ \"^2[0-9]{3}-.*Z$\"",
    "t > 1000",
    "err == EACCES",
    "err == -13",
    "err < 0",
    "err != ENOENT",
    "err =~ \"^EA\"",
    "code == ENOENT && code == 2",
    "sig == SIGTERM && sig == 15",
    "sig =~ TERM",
    "d == 1.500ms",
    "d == 1500123",
    "d > 1.5ms && d < 0.002s",
    "d < 1m05s",
    "d =~ \"ms$\"",
    "mac == 02:00:00:00:00:ab",
    "mac == 02-00-00-00-00-AB",
    "mac >= 02:00:00:00:00:00",
    "mac =~ \"^02:\"",
    "hx == 0xff && hx == 255",
    "bits == 0xffffffff && bits == -1 && bits > 0",
    "digest == 00be00",
    "digest =~ be",
    "sc == execve && sc == 59",
    "sc !~ \"^open\"",
    "state == IT_IS_BUSY && state == 1",
    "state =~ \"BUSY$\"",
];

const FALSE: [&str; 8] = [
    "ip == 10.0.0.0/8",
    "v6 == 10.1.0.0/16",
    "t > 2100-01-01",
    "err == ENOENT",
    "err !~ \"^EA\"",
    "sig == SIGKILL",
    "d == 1.499ms",
    "mac == 02:00:00:00:00:ac",
];

#[test]
fn filters_compare_formatted_and_plain_values() {
    needs_root!();
    let folder = formats();
    let all: Vec<String> = TRUE.iter().map(|one| format!("({one})")).collect();
    let none: Vec<String> = FALSE.iter().map(|one| format!("!({one})")).collect();
    let ran = filtered(&folder, &["-j", "--count", "1"], &[all.clone(), none].concat().join(" && "));
    if ran.out.lines().count() != 1 {
        for (wanted, conditions) in [(1, &TRUE[..]), (0, &FALSE[..])] {
            for condition in conditions {
                let ran = filtered(&folder, &["-j", "--count", "1", "--duration", "1"], condition);
                let shown = ran.out.lines().filter(|line| line.contains("\"v6\"")).count();
                assert_eq!(shown, wanted, "{condition}: {}", ran.err);
            }
        }
        panic!("all at once: {} {}", ran.out, ran.err);
    }
    let table = filtered(&folder, &["--count", "1"], &all.join(" && "));
    let row = table.out.lines().last().unwrap_or_default();
    assert!(row.contains(" EACCES ") && row.contains(" 127.0.0.1 "), "{} {}", table.out, table.err);
    // Times count from the start of the machine, which was not in 1970.
    assert!(row.contains(" 2") && !row.contains(" 1970-"), "{}", table.out);
}

#[test]
fn an_invalid_value_names_the_expected_ones() {
    needs_root!();
    let folder = formats();
    let cases = [
        ("ip == 10.0.0.0/33", "10.0.0.0/8"),
        ("ip == ::1", "10.0.0.1"),
        ("ip < 10.0.0.0/8", "== or !="),
        ("v6 == 5", "2001:db8::1"),
        ("err == ENOSUCH", "ENOENT"),
        ("sig == TERM", "SIGTERM"),
        ("mac == 02:00", "02:42:ac:11:00:02"),
        ("t > soon", "2026-01-31T12:00:00Z"),
        ("d == 5x", "1.5ms"),
        ("digest == 00be", "two digits for each byte"),
        ("sc == nosuchcall", "openat"),
    ];
    let path = folder.path().join("package.json");
    for (filter, what) in cases {
        let ran = support::run(&["run", "--filter", filter, path.to_str().expect("UTF-8")]);
        assert_eq!(ran.code, Some(2), "{filter}: {}", ran.err);
        assert!(ran.err.contains(what) && ran.err.lines().count() == 1, "{filter}: {}", ran.err);
    }
}

#[test]
fn records_of_several_types_are_filtered_by_their_own_fields() {
    needs_root!();
    let folder = formats();
    let own = std::fs::read_to_string("/proc/thread-self/comm").expect("a name").trim().to_owned();
    let ran = filtered(&folder, &["-j", "--count", "4"], &format!("comm == {own:?} && ret == ENOENT"));
    let is_other = |line: &str| line.starts_with("{\"ret\":");
    assert!(ran.out.lines().count() == 4 && ran.out.lines().all(is_other), "{} {}", ran.out, ran.err);
    let note = "--filter: struct event has no field \"ret\"";
    assert_eq!(ran.err.matches(note).count(), 1, "{}", ran.err);
    let both = filtered(&folder, &["-j", "--count", "20"], "ret == -2 || sig == 15");
    let others = both.out.lines().filter(|line| is_other(line)).count();
    assert!(others > 0 && others < 20, "{}", both.out);
    assert!(
        both.err.contains(note) && both.err.contains("struct other has no field \"sig\""),
        "{}",
        both.err
    );
    let path = folder.path().join("package.json");
    let unknown = support::run(&["run", "--filter", "nosuch == 1", path.to_str().expect("UTF-8")]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.err);
    let is_named = |what: &str| unknown.err.contains(what);
    assert!(is_named("struct event: ip, v6") && is_named("struct other: ret, comm"), "{}", unknown.err);
}

/// A record that is a number or an enum is the field `value`.
#[test]
fn records_without_members_are_filtered_by_their_value() {
    needs_root!();
    let folder = support::compile(
        r#"#include "vmlinux.h"
        #include <bpf/bpf_helpers.h>
        enum color { RED, GREEN };
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } colors SEC(".maps");
        SEC("tracepoint/syscalls/sys_enter_getpgid") int called(void *ctx) {
            enum color color = bpf_get_prandom_u32() & 1;
            bpf_ringbuf_output(&colors, &color, sizeof(color), 0);
            return 0;
        }
        char LICENSE[] SEC("license") = "GPL";"#,
    );
    let shown = |args: &[&str], filter: &str| {
        let ran = filtered(&folder, &[&["--count", "3"], args].concat(), filter);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        ran.out
    };
    assert_eq!(shown(&["-j"], "value == GREEN"), "\"GREEN\"\n".repeat(3));
    assert_eq!(shown(&["-j", "--columns", "value"], "value == 0"), "{\"value\":\"RED\"}\n".repeat(3));
    assert_eq!(shown(&["--format", "csv"], "value =~ \"^RE\""), "value\nRED\nRED\nRED\n");
    assert!(shown(&[], "value == GREEN").lines().next().unwrap().contains("VALUE"));
}
