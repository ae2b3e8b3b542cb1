//! `ecli check` and `ecli run` report the same failure of a package and end with the same code.

mod support;

use std::path::Path;

use support::{Ran, compile, run};

/// The first lines of each source.
const HEAD: &str = "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n\
    char LICENSE[] SEC(\"license\") = \"GPL\";\n";

/// A ring buffer that delivers.
const EVENTS: &str = "struct event { u64 id; };\n\
    struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(\".maps\");\n\
    static int send(void) { struct event e = { 1 }; return bpf_ringbuf_output(&events, &e, sizeof(e), 0); }\n";

/// The output of both commands for a source.
struct Both {
    check: Ran,
    run: Ran,
}

fn both(source: &str, options: &[&str]) -> Both {
    let folder = compile(&format!("{HEAD}{source}"));
    let path = folder.path().join("package.json");
    let path = path.to_str().expect("UTF-8");
    let with = |command: &[&str]| run(&[command, options, &[path]].concat());
    let both = Both { check: with(&["check"]), run: with(&["run", "--duration", "200ms"]) };
    assert_eq!(
        both.check.code, both.run.code,
        "check:\n{}{}run:\n{}",
        both.check.out, both.check.err, both.run.err
    );
    both
}

impl Both {
    /// Both end with `code`, and the lines that `check` prints begin with these texts, in the order of the programs'
    /// names.
    #[track_caller]
    fn are(&self, code: i32, lines: &[&str]) {
        assert_eq!(self.run.code, Some(code), "{}\n{}", self.run.err, self.check.out);
        let mut printed: Vec<&str> = self.check.out.lines().filter(|line| !line.starts_with(' ')).collect();
        printed.sort_unstable();
        let fits = printed.len() == lines.len()
            && printed.iter().zip(lines).all(|(line, start)| line.starts_with(start));
        assert!(fits, "{}\n{}", self.check.out, self.check.err);
    }

    /// `run` prints one line, which contains these words.
    #[track_caller]
    fn says_once(&self, words: &[&str]) {
        let lines: Vec<&str> = self.run.err.lines().collect();
        assert_eq!(lines.len(), 1, "{}", self.run.err);
        words.iter().for_each(|word| assert!(lines[0].contains(word), "{word:?}: {}", lines[0]));
    }
}

fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

#[test]
fn a_program_in_an_array_that_is_refused_leaves_a_line_to_the_others() {
    needs_root!();
    let array = |bad: &str| {
        format!(
            "int tail_ok(void *ctx); int tail_bad(void *ctx);
            struct {{ __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4);
                __array(values, int (void *)); }} jumps SEC(\".maps\") =
                {{ .values = {{ [1] = (void *)&tail_ok, [3] = (void *)&tail_bad }} }};
            SEC(\"raw_tp\") int tail_ok(void *ctx) {{ return 0; }}
            SEC(\"raw_tp\") int tail_bad(void *ctx) {{ return {bad}; }}
            SEC(\"raw_tp/sys_enter\") int entry(void *ctx) {{ bpf_tail_call(ctx, &jumps, 1); return 0; }}
            SEC(\"?raw_tp/sys_exit\") int later(void *ctx) {{ return 0; }}
            SEC(\"raw_tp/sys_exit\") int other(void *ctx) {{ return 0; }}"
        )
    };
    let refused = both(&array("*(int *)0xdead0000UL"), &[]);
    refused.are(
        5,
        &[
            "entry: ok",
            "later: ok (loaded only on request)",
            "other: ok",
            "tail_bad: refused: ",
            "tail_ok: ok",
        ],
    );
    // A program that others call need not be attached.
    both(&array("0"), &[]).are(
        0,
        &["entry: ok", "later: ok (loaded only on request)", "other: ok", "tail_bad: ok", "tail_ok: ok"],
    );
}

#[test]
fn the_verifier_log_is_printed_once() {
    needs_root!();
    let source = "SEC(\"raw_tp/sys_enter\") int bad(void *ctx) { return *(int *)0xdead0000UL; }";
    let refused = both(source, &[]);
    refused.are(5, &["bad: refused: rejected by the verifier: "]);
    assert_eq!(refused.run.err.matches("processed ").count(), 1, "{}", refused.run.err);
    assert_eq!(refused.run.err.matches("rejected by the verifier").count(), 1, "{}", refused.run.err);
}

#[test]
fn a_function_that_the_kernel_lacks_is_the_fault_of_the_programs_that_call_it() {
    needs_root!();
    let source = "extern void bpf_no_such_function(void) __ksym;
        extern void bpf_rcu_read_lock(void) __ksym; extern void bpf_rcu_read_unlock(void) __ksym;
        SEC(\"tp_btf/sched_switch\") int lacking(void *ctx) { bpf_no_such_function(); return 0; }
        SEC(\"tp_btf/sched_switch\") int asking(void *ctx) { bpf_rcu_read_lock(); bpf_rcu_read_unlock(); return 0; }
        SEC(\"raw_tp/sys_enter\") int plain(void *ctx) { return 0; }";
    let why = "this kernel has no function \"bpf_no_such_function\" (kfunc)";
    let lacking = both(source, &[]);
    lacking.are(5, &["asking: ok", &format!("lacking: refused: {why}"), "plain: ok"]);
    lacking.says_once(&["program \"lacking\" (tp_btf/sched_switch): ", why]);
    // Another program may replace it.
    let source = source.replacen("SEC(\"tp_btf", "/// @instead_of plain\nSEC(\"tp_btf", 1);
    both(&source, &[]).are(0, &["asking: ok", &format!("lacking: skipped: {why}"), "plain: ok"]);
}

#[test]
fn missing_and_unused_struct_ops() {
    needs_root!();
    let operations = |section: &str| {
        format!(
            "struct no_such_ops {{ int (*work)(void); }};
            SEC(\"struct_ops/work\") int work(void *ctx) {{ return 0; }}
            SEC(\"{section}\") struct no_such_ops lacking = {{ .work = (void *)work }};
            SEC(\"raw_tp/sys_enter\") int plain(void *ctx) {{ return 0; }}"
        )
    };
    let why = "map \"lacking\": this kernel has no operations \"no_such_ops\" (struct_ops)";
    let lacking = both(&operations(".struct_ops.link"), &[]);
    lacking.are(5, &["plain: ok", &format!("work: refused: {why}")]);
    lacking.says_once(&[why]);
    let optional = both(&operations("?.struct_ops.link"), &[]);
    optional.are(0, &["plain: ok", "work: refused (loaded only on request): map \"lacking\""]);
}

#[test]
fn run_and_check_agree_on_unknown_sections() {
    needs_root!();
    let source = "SEC(\"no_such_section\") int odd(void *ctx) { return 0; }
        SEC(\"raw_tp/sys_enter\") int plain(void *ctx) { return 0; }";
    let odd = both(source, &[]);
    odd.are(3, &["odd: refused: ", "plain: ok"]);
    odd.says_once(&["odd", "no_such_section"]);
}

#[test]
fn a_map_that_is_refused_is_the_fault_of_the_programs_that_use_it() {
    needs_root!();
    let source =
        "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __uint(map_flags, 1 << 30);
            __type(key, int); __type(value, int); } odd SEC(\".maps\");
        SEC(\"raw_tp/sys_enter\") int user(void *ctx) { int key = 0; return bpf_map_delete_elem(&odd, &key); }
        SEC(\"raw_tp/sys_exit\") int plain(void *ctx) { return 0; }";
    let refused = both(source, &[]);
    refused.are(3, &["plain: ok", "user: refused: map \"odd\": the kernel refuses "]);
    refused.says_once(&["map \"odd\": "]);
}

#[test]
fn many_programs_without_a_hook_are_one_line() {
    needs_root!();
    let programs: String = (0..4)
        .map(|index| format!("SEC(\"tracepoint/sched/no_such\") int p{index}(void *ctx) {{ return 0; }}\n"))
        .collect();
    let why = "this kernel has no tracepoint \"sched/no_such\"";
    let none = both(&programs, &[]);
    let line = |index: usize| format!("p{index}: cannot attach: {why}");
    none.are(5, &[&line(0), &line(1), &line(2), &line(3)]);
    none.says_once(&[why, "4 of 4 programs cannot attach"]);
    assert!(none.check.err.contains("4 of 4 programs cannot attach"), "{}", none.check.err);
    let some =
        both(&format!("{programs}SEC(\"raw_tp/sys_enter\") int plain(void *ctx) {{ return 0; }}"), &[]);
    let line = |index: usize| format!("p{index}: skipped: {why}");
    some.are(0, &[&line(0), &line(1), &line(2), &line(3), "plain: ok"]);
    assert_eq!(some.run.err.matches("no_such").count(), 1, "{}", some.run.err);
    assert!(some.run.err.contains(&format!("4 of 5 programs are skipped: {why}")), "{}", some.run.err);
}

#[test]
fn missing_kprobes_are_one_line() {
    needs_root!();
    let source = "SEC(\"kprobe/no_such_a\") int a(void *ctx) { return 0; }
        SEC(\"kretprobe/no_such_b\") int b(void *ctx) { return 0; }
        SEC(\"ksyscall/no_such_c\") int c(void *ctx) { return 0; }";
    let none = both(source, &[]);
    none.are(5, &["a: cannot attach: this kernel ", "b: cannot attach: this kernel ", "c: "]);
    if !has_kprobes() {
        none.says_once(&["without kprobes (CONFIG_KPROBES): 3 of 3 programs cannot attach; see ecli doctor"]);
    }
}

#[test]
fn a_package_that_can_see_nothing_fails() {
    needs_root!();
    let source = |source: &str, helper: &str| {
        format!(
            "{EVENTS}{source}SEC(\"tracepoint/sched/no_such\") int sends(void *ctx) {{ return send(); }}
            {helper}SEC(\"raw_tp/sys_enter\") int helps(void *ctx) {{ return 0; }}"
        )
    };
    let why = "this kernel has no tracepoint \"sched/no_such\"";
    let blind = both(&source("", ""), &[]);
    blind.are(5, &["helps: ok", &format!("sends: cannot attach: {why}")]);
    blind.says_once(&["program \"sends\"", why, "the others deliver no events"]);
    // The programs that the package declares as required take precedence.
    let skipped = format!("sends: skipped: {why}");
    both(&source("", "/// @required true\n"), &[]).are(0, &["helps: ok", &skipped]);
    both(&source("/// @required false\n", ""), &[]).are(0, &["helps: ok", &skipped]);
    let required = both(&source("/// @required true\n", "/// @required false\n"), &[]);
    required.are(5, &["helps: ok", &format!("sends: cannot attach: {why}")]);
    // Another program also sends events, in a function that it calls.
    let other = "static __noinline int again(void) { return send(); }
        SEC(\"raw_tp/sys_exit\") int sends_too(void *ctx) { return again(); }\n";
    both(&source(other, ""), &[]).are(0, &["helps: ok", &skipped, "sends_too: ok"]);
}

#[test]
fn a_wrong_target_is_the_package_s_fault_or_the_user_s() {
    needs_root!();
    let program =
        |section: &str, keys: &str| format!("{keys}SEC(\"{section}\") int p(void *ctx) {{ return 1; }}\n");
    let shell = std::fs::canonicalize("/bin/bash").expect("bash is there");
    let shell = shell.to_str().expect("UTF-8");
    let with_symbols = env!("CARGO_BIN_EXE_ecli");
    let cases = [
        ("uprobe//no/such/file:main", "uprobe", "path:/no/such/file,func:main", "/no/such/file"),
        (
            &format!("uprobe/{shell}:no_such_function"),
            "uprobe",
            &format!("path:{shell},func:no_such_function"),
            "no_such",
        ),
        ("uretprobe//etc/passwd:main", "uretprobe", "path:/etc/passwd,func:main", "/etc/passwd"),
        ("usdt//no/such/file:a:b", "usdt", "attach:usdt//no/such/file:a:b", "/no/such/file"),
        (&format!("usdt/{shell}:no:such"), "usdt", &format!("attach:usdt/{shell}:no:such"), shell),
        ("usdt//etc/passwd:a:b", "usdt", "attach:usdt//etc/passwd:a:b", "/etc/passwd"),
        (
            &format!("uprobe/{with_symbols}:no_such_function"),
            "uprobe",
            &format!("path:{with_symbols},func:no_such_function"),
            "has no function \"no_such_function\"",
        ),
    ];
    for (section, bare, target, word) in cases {
        let wrong = both(&program(section, ""), &[]);
        wrong.are(3, &["p: cannot attach: "]);
        wrong.says_once(&["program \"p\"", word]);
        let wrong = both(&program(bare, ""), &["--attach", &format!("p={target}")]);
        wrong.are(2, &["p: cannot attach: "]);
        wrong.says_once(&["program \"p\"", word]);
    }
    let cases = [
        ("xdp", "/// @interface \"no-such0\"\n", "interface:no-such0", "no such network interface"),
        ("tc", "/// @interface \"no-such0\"\n", "interface:no-such0", "no such network interface"),
        ("cgroup_skb/egress", "/// @cgroup \"/no/such/group\"\n", "cgroup:/no/such/group", "/no/such/group"),
        ("cgroup/connect4", "/// @cgroup \"/tmp\"\n", "cgroup:/tmp", "not a cgroup2 directory"),
    ];
    for (section, key, target, word) in cases {
        let wrong = both(&program(section, key), &[]);
        wrong.are(3, &["p: cannot attach: "]);
        wrong.says_once(&["program \"p\"", word]);
        both(&program(section, ""), &["--attach", &format!("p={target}")]).are(2, &["p: cannot attach: "]);
    }
    // Only a directory is opened: opening a FIFO would block.
    let file = both(&program("cgroup_skb/egress", ""), &["--attach", "p=cgroup:/dev/null"]);
    file.are(2, &["p: cannot attach: "]);
    assert!(file.check.out.contains("Not a directory") && file.run.err.contains("Not a directory"));
    // A section without a target requires one.
    for section in ["cgroup_skb/egress", "uprobe", "usdt"] {
        both(&program(section, ""), &[]).are(2, &["p: cannot attach: "]);
    }
}
