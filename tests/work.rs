//! Work grows linearly with its input. Opening a package runs under valgrind, which counts the instructions of each function, for
//! one, two and four times as many entries of everything that a package or an object can contain. Times would depend on the
//! machine.
//!
//! Some loops of libbpf are not linear; `docs/security.md` describes how they are bounded.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use eunomia::Kind;
use eunomia::package::Package;
use serde_json::{Value, json};

/// The variable with the directory of the packages for the run under valgrind.
const FOLDER: &str = "EUNOMIA_WORK_FOLDER";
/// Numbers of entries: a base, and two and four times that.
const SIZES: [usize; 3] = [150, 300, 600];
/// Maximum ratio of a function's cost in the second step to that in the first: 2 is linear, 4 is quadratic.
const LINEAR: f64 = 3.0;
/// The same for libbpf, which has nested loops; the library bounds the products.
const QUADRATIC: f64 = 4.5;
/// Minimum number of instructions of a quadratic loop of these sizes.
const NEGLIGIBLE: i64 = 300_000;
/// The name under which all functions of libbpf are counted.
const LIBBPF: &str = "libbpf";

/// A kind of entry that a package can have many of.
struct Shape {
    name: &'static str,
    source: fn(usize) -> String,
    meta: fn(usize) -> Value,
}

const SHAPES: [Shape; 11] = [
    Shape { name: "variables", source: variables, meta: no_meta },
    Shape { name: "variables-told", source: variables, meta: told_variables },
    Shape { name: "values", source: variables, meta: values },
    Shape { name: "sections", source: sections, meta: no_meta },
    Shape { name: "maps", source: maps, meta: told_maps },
    Shape { name: "programs", source: programs, meta: told_programs },
    Shape { name: "variants", source: programs, meta: variants },
    Shape { name: "subprograms", source: subprograms, meta: no_meta },
    Shape { name: "types", source: types, meta: told_types },
    Shape { name: "relocations", source: relocations, meta: no_meta },
    Shape { name: "externs", source: externs, meta: no_meta },
];

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, index| {
        let _ = writeln!(text, "{}", line(index));
        text
    })
}

fn variables(count: usize) -> String {
    lines(count, |i| format!("const volatile int variable_{i} = {i}; int counter_{i};"))
}

fn sections(count: usize) -> String {
    lines(count, |i| format!("int variable_{i} SEC(\".data.s{i}\") = {i};"))
}

fn maps(count: usize) -> String {
    let map = |i| {
        format!(
            "struct {{ int (*type)[2]; int (*max_entries)[1]; int *key; long *value; }} map_{i} SEC(\".maps\");
            SEC(\"raw_tp/a\") long use_{i}(void *c) {{ return (long)&map_{i}; }}"
        )
    };
    lines(count, map)
}

fn programs(count: usize) -> String {
    lines(count, |i| format!("SEC(\"raw_tp/tracepoint_{i}\") int program_{i}(void *c) {{ return 0; }}"))
}

fn subprograms(count: usize) -> String {
    let function =
        |i| format!("static __attribute__((noinline)) int f{i}(volatile int *p) {{ return *p + {i}; }}");
    let calls = lines(count, |i| format!("sum += f{i}(&one);"));
    let main = "SEC(\"raw_tp/a\") int p(void *c) { int sum = 0; volatile int one = 1;";
    format!("{}{main}{calls}return sum; }}", lines(count, function))
}

fn types(count: usize) -> String {
    let ty = |i| {
        format!(
            "struct type_{i} {{ int a; struct type_{i} *next; char text[{}]; }}; struct type_{i} *p_{i};",
            i + 1
        )
    };
    lines(count, ty)
}

fn relocations(count: usize) -> String {
    // Each refers to another type that the kernel lacks, so each is compared with all types of the kernel.
    let count = count / 15;
    let ty = |i| format!("struct no_such_{i} {{ int a; int b; }} __attribute__((preserve_access_index));");
    let read = |i| {
        format!(
            "SEC(\"raw_tp/a\") int p{i}(struct no_such_{i} *s) {{ return __builtin_preserve_field_info(s->b, 2); }}"
        )
    };
    lines(count, ty) + &lines(count, read)
}

fn externs(count: usize) -> String {
    let declared =
        lines(count, |i| format!("extern int extern_{i} __attribute__((section(\".ksyms\"), weak));"));
    declared
        + &lines(count, |i| format!("SEC(\"raw_tp/a\") long p{i}(void *c) {{ return (long)&extern_{i}; }}"))
}

fn no_meta(_: usize) -> Value {
    json!({ "bpf_skel": {} })
}

fn each(count: usize, entry: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..count).map(entry).collect()
}

fn told_variables(count: usize) -> Value {
    let told = |i| {
        let (name, long) = (format!("variable_{i}"), format!("option-{i}"));
        json!({ "name": name, "type": "int", "value": i, "cmdarg": { "default": i, "long": long, "help": "a value" } })
    };
    json!({ "bpf_skel": { "data_sections": [{ "name": ".rodata", "variables": each(count, told) }] } })
}

fn values(count: usize) -> Value {
    let values = (0..count).map(|i| (format!("counter_{i}"), json!(i)));
    json!({ "bpf_skel": {}, "runtime_args": values.collect::<serde_json::Map<_, _>>() })
}

fn told_maps(count: usize) -> Value {
    let told = |i| json!({ "name": format!("map_{i}"), "ident": format!("map_{i}"), "sample": { "interval": 1000 } });
    json!({ "bpf_skel": { "maps": each(count, told) } })
}

fn told_programs(count: usize) -> Value {
    let told = |i| json!({ "name": format!("program_{i}"), "attach": format!("raw_tp/tracepoint_{i}"), "required": true });
    json!({ "bpf_skel": { "progs": each(count, told) } })
}

/// The number must not exceed the limit.
fn variants(count: usize) -> Value {
    let told = |i| match i % 4 {
        0 => json!({ "name": format!("program_{i}"), "instead_of": format!("program_{}", i + 1) }),
        _ => json!({ "name": format!("program_{i}") }),
    };
    json!({ "bpf_skel": { "progs": each(count, told) } })
}

fn told_types(count: usize) -> Value {
    let members = json!([{ "name": "a", "type": "int" }, { "name": "text", "type": "char[8]" }]);
    let told = |i| json!({ "name": format!("type_{i}"), "size": 16, "members": members });
    json!({ "bpf_skel": {}, "export_types": each(count, told) })
}

/// Compiles a source with clang alone.
fn compiled(folder: &Path, source: &str) -> Vec<u8> {
    let (file, object) = (folder.join("source.c"), folder.join("source.o"));
    let head = "#define SEC(name) __attribute__((section(name), used))\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n";
    fs::write(&file, format!("{head}{source}")).unwrap();
    let mut clang = Command::new("clang");
    clang.args(["-O1", "-g", "-target", "bpf", "-Wno-everything", "-c"]).arg(&file).arg("-o").arg(&object);
    assert!(clang.status().expect("clang runs").success());
    fs::read(object).unwrap()
}

/// The function at which valgrind ends one count and begins the next.
#[inline(never)]
fn end_of_work(step: usize) -> usize {
    std::hint::black_box(step)
}

/// The measured work on each package: everything that needs neither privileges nor the kernel.
fn work(package: &[u8]) {
    let vm = support::vm();
    vm.open(package, Kind::Json).unwrap();
    vm.args_set(&["program"]).unwrap();
    assert!(!vm.describe().unwrap().is_empty() && !vm.args_help().unwrap().is_empty());
}

#[test]
fn work_grows_linearly_with_its_input() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let mut packages: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        packages.sort();
        let packages = packages.into_iter().filter(|path| path.extension().is_some_and(|it| it == "json"));
        for (step, package) in packages.enumerate() {
            let package = fs::read(package).unwrap();
            end_of_work(step);
            work(&package);
            end_of_work(step);
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (at, shape) in SHAPES.iter().enumerate() {
        for (step, size) in SIZES.into_iter().enumerate() {
            let object = compiled(folder.path(), &(shape.source)(size));
            let package = Package::build(&object, (shape.meta)(size)).unwrap();
            fs::write(folder.path().join(format!("{at:02}-{step}.json")), package.to_json()).unwrap();
        }
    }
    let counts = counted(folder.path());
    assert_eq!(counts.len(), SHAPES.len() * SIZES.len());
    let mut bad = Vec::new();
    for (shape, counts) in SHAPES.iter().zip(counts.chunks(SIZES.len())) {
        let totals: Vec<i64> = counts.iter().map(|functions| functions.values().sum()).collect();
        println!("{}: {totals:?} instructions", shape.name);
        for (function, most) in &counts[2] {
            let at = |step: usize| counts[step].get(function).copied().unwrap_or(0);
            let growth = (most - at(1)) as f64 / (at(1) - at(0)).max(1) as f64;
            let most_growth = if function == LIBBPF { QUADRATIC } else { LINEAR };
            if *most > NEGLIGIBLE && growth > most_growth {
                bad.push(format!("{}: {function}: {}, {}, {most}", shape.name, at(0), at(1)));
            }
        }
    }
    assert!(bad.is_empty(), "more than linear: {bad:#?}");
}

/// Instructions per function.
type Costs = BTreeMap<String, i64>;

/// Runs this test under valgrind and returns the costs of each package.
fn counted(folder: &Path) -> Vec<Costs> {
    let out = folder.join("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--compress-strings=no",
        "--compress-pos=no",
        "--dump-after=*end_of_work*",
    ]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.arg(std::env::current_exe().unwrap()).args(["--exact", "--nocapture", "--test-threads=1"]);
    valgrind.arg("work_grows_linearly_with_its_input").env(FOLDER, folder);
    let ran = valgrind.output().expect("valgrind runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    // One file per call of `end_of_work`; the second of each pair has the work between the calls.
    let file = |number: usize| fs::read_to_string(format!("{}.{number}", out.display())).ok();
    let files = (1..).map_while(file);
    files.skip(1).step_by(2).map(|text| costs(&text)).collect()
}

/// The costs of each Rust function without its callees, and of all of libbpf.
fn costs(profile: &str) -> Costs {
    let (mut costs, mut file, mut function, mut is_call) = (Costs::new(), "", "", false);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fl=") {
            file = name;
        } else if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if line.starts_with("calls=") {
            // The next line has the cost of the callee.
            is_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit()) && !std::mem::take(&mut is_call) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<i64>().ok()).unwrap_or(0);
            if file.ends_with(".rs") {
                *costs.entry(function.to_owned()).or_default() += cost;
            } else if file.contains("libbpf/src") {
                *costs.entry(LIBBPF.to_owned()).or_default() += cost;
            }
        }
    }
    costs
}
