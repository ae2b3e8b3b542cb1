//! The configurations of examples/exporter: their packages fit, their schema and dashboards are up to date, their rules are valid.
//! `make packages` compiles the packages first.

use std::collections::BTreeSet;

use eunomia_exporter::config;
use eunomia_exporter::dashboard::dashboard;
use serde_json::{Value, json};

use super::*;

const NAMES: [&str; 6] = ["biolatency", "cgroup-traffic", "oomkill", "opensnoop", "runqlat", "tcpconnlat"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example(name: &str) -> PathBuf {
    root().join("examples/exporter").join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_example_fits_its_package() {
    needs_root!();
    let listed = std::fs::read_dir(example("")).expect("a folder").flatten();
    let configs: BTreeSet<String> = listed
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| read_or_empty(&example(name)).contains("config.schema.json"))
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .collect();
    assert_eq!(configs, BTreeSet::from(NAMES.map(str::to_owned)));
    let checks = NAMES.map(|name| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eunomia-exporter"));
        command.arg("--check").arg("--config").arg(example(&format!("{name}.yaml")));
        (name, command.stderr(Stdio::piped()).spawn().expect("it runs"))
    });
    for (name, child) in checks {
        let output = child.wait_with_output().expect("a child");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn read_or_empty(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn examples_count_what_happens() {
    needs_root!();
    let programs = ["opensnoop", "runqlat", "oomkill"].map(|name| {
        let text = read(&example(&format!("{name}.yaml")));
        let (_, programs) = text.split_once("programs:\n").expect("a list");
        programs.replace("../..", &root().display().to_string())
    });
    // The files of all processes could be more than the metric has series.
    let own = format!("- name: opensnoop\n  args: [--pid, \"{}\"]\n", std::process::id());
    let programs = programs.map(|text| text.replace("- name: opensnoop\n", &own));
    let exporter = Exporter::start(&format!("programs:\n{}", programs.concat()));
    let missing = exporter.folder.path().join("missing");
    File::open(&missing).expect_err("it does not exist");
    let group = MemoryGroup::new(16 << 20);
    let enter = format!("echo $$ > {}/cgroup.procs && exec tail /dev/zero", group.0.display());
    let status = Command::new("sh").args(["-c", &enter]).status().expect("sh runs");
    assert!(!status.success());
    let own = read(Path::new("/proc/thread-self/comm"));
    let opened =
        format!("eunomia_file_open_counter{{comm=\"{}\",filename=\"{}\"}}", own.trim(), missing.display());
    let failed = format!("file_open_errors_total{{comm=\"{}\",error=\"ENOENT\"}}", own.trim());
    let has =
        |text: &str, start: &str| text.lines().any(|line| line.starts_with(start) && !line.ends_with(" 0"));
    wait_for("the counts", || {
        let text = exporter.metrics();
        value(&text, &opened) == Some(1.0)
            && has(&text, &failed)
            && has(&text, "oom_kills_total{")
            && has(&text, "run_queue_latency_seconds_count{")
    });
}

/// A memory cgroup below the root, removed on drop.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn new(limit: u64) -> MemoryGroup {
        let first = Path::new("/sys/fs/cgroup/memory");
        let (root, file) = match first.join("memory.limit_in_bytes").exists() {
            true => (first, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let folder = root.join(format!("eunomia-exporter-test-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a memory cgroup");
        std::fs::write(folder.join(file), limit.to_string()).expect("the limit is set");
        MemoryGroup(folder)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let folder = self.0.clone();
        wait_for("the end of the group", || std::fs::remove_dir(&folder).is_ok());
    }
}

#[test]
fn dashboards_are_up_to_date() {
    for name in NAMES {
        let file = config::File::read(&example(&format!("{name}.yaml"))).expect("a valid configuration");
        let (path, written) = (example(&format!("dashboards/{name}.json")), dashboard(&file, name));
        if std::env::var_os("UPDATE_DASHBOARDS").is_some() {
            std::fs::write(&path, &written).expect("a file");
        }
        let hint = "run the tests with UPDATE_DASHBOARDS=1";
        assert!(read(&path) == written, "{} differs from its configuration: {hint}", path.display());
        let parsed: Value = serde_json::from_str(&written).expect("JSON");
        let panels = parsed["panels"].as_array().expect("a list");
        let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len());
        let queries = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
        let mut rules = Vec::new();
        for query in queries {
            let query = query["expr"].as_str().expect("a query");
            // What Grafana replaces.
            let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
            rules.push(json!({"record": format!("q{}", rules.len()), "expr": query}));
        }
        let folder = folder();
        let path = folder.path().join("rules.yaml");
        std::fs::write(&path, json!({"groups": [{"name": "all", "rules": rules}]}).to_string())
            .expect("a file");
        promtool(&["check", "rules"], &path);
    }
}

#[test]
fn alert_rules_are_valid() {
    promtool(&["check", "rules"], &example("alerts.yaml"));
    promtool(&["test", "rules"], &example("alerts.test.yaml"));
    promtool(&["check", "config"], &example("prometheus.yml"));
}

#[track_caller]
fn promtool(args: &[&str], path: &Path) {
    let output = Command::new("promtool").args(args).arg(path).output();
    let output = output.expect("promtool is installed: tools/setup.sh test");
    let printed = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&printed));
}

#[test]
fn files_that_containers_mount_exist() {
    let compose: Value = config::parse(&read(&example("compose.yaml"))).expect("YAML");
    let services = compose["services"].as_object().expect("services");
    let volumes = services.values().filter_map(|service| service["volumes"].as_array()).flatten();
    let paths = volumes.filter_map(|volume| volume.as_str()?.split(':').next());
    // Absolute ones are those of every Linux, and those in target are built.
    let own: Vec<&str> = paths.filter(|path| path.starts_with('.') && !path.contains("/target/")).collect();
    assert!(own.len() >= 6, "{own:?}");
    for path in own {
        assert!(example(path).exists(), "{path}");
    }
}

// ---- the schema ---------------------------------------------------------------------------------------------

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.schema.json");
    serde_json::from_str(&read(&path)).expect("JSON")
}

/// Runs the validator of Python's jsonschema on documents. Returns the first problem of each; nothing if it is valid.
fn validate(documents: &[Value]) -> Vec<Option<String>> {
    let script = "import json, sys\nimport jsonschema\n\
        schema, documents = json.load(sys.stdin)\n\
        jsonschema.Draft7Validator.check_schema(schema)\n\
        validator = jsonschema.Draft7Validator(schema)\n\
        first = lambda document: next((error.message for error in validator.iter_errors(document)), None)\n\
        print(json.dumps([first(document) for document in documents]))\n";
    let mut command = Command::new(root().join("target/venv/bin/python"));
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the virtual environment exists: tools/setup.sh test");
    let input = json!([schema(), documents]).to_string();
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("a child");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("a list")
}

#[test]
fn the_schema_accepts_every_example_and_refuses_mistakes() {
    let examples: Vec<Value> = NAMES
        .iter()
        .map(|name| config::parse(&read(&example(&format!("{name}.yaml")))).expect("YAML"))
        .collect();
    let valid = json!({"programs": [{"name": "a", "package": "p.json", "metrics": {"counters": [
        {"name": "a_total", "labels": ["x", {"name": "y", "from": "z", "as": "ipv4"}]},
    ]}}]});
    let broken = |pointer: &str, value: Value| {
        let mut document = valid.clone();
        *document.pointer_mut(pointer).expect("a value") = value;
        document
    };
    let counter = "/programs/0/metrics/counters/0";
    let mistakes = [
        broken("/programs", json!({})),
        broken("/programs/0/name", json!("")),
        broken("/programs/0", json!({"name": "a"})),
        broken("/programs/0/metrics", json!({"counter": []})),
        broken(counter, json!({"name": "a-b"})),
        broken(counter, json!({"name": "a", "observe": "x"})),
        broken(counter, json!({"name": "a", "unit": "weeks"})),
        broken(&format!("{counter}/labels/1/as"), json!("ipv5")),
        broken(&format!("{counter}/labels/1"), json!(7)),
    ];
    let all = [&examples[..], &[valid][..], &mistakes[..]].concat();
    let problems = validate(&all);
    let (fine, wrong) = problems.split_at(examples.len() + 1);
    assert!(fine.iter().all(Option::is_none), "{fine:?}");
    assert!(wrong.iter().all(Option::is_some), "{wrong:?}");
    // Formats are checked with the type of the field.
    for mistake in mistakes.iter().filter(|mistake| !mistake.to_string().contains("ipv5")) {
        assert!(config::File::parse(&mistake.to_string()).is_err(), "{mistake}");
    }
}

/// The keys that the exporter knows at a place, from its message about one that it does not know.
fn known(document: &Value) -> BTreeSet<String> {
    let text = config::File::parse(&document.to_string()).expect_err("an unknown key").text;
    let (_, list) = text.split_once("expected one of ").unwrap_or_else(|| panic!("{document}: {text}"));
    list.split(", ").map(str::to_owned).collect()
}

fn properties(definition: &Value) -> BTreeSet<String> {
    let properties = definition["properties"].as_object().unwrap_or_else(|| panic!("{definition}"));
    assert_eq!(definition["additionalProperties"], json!(false), "{definition}");
    properties.keys().cloned().collect()
}

#[test]
fn the_schema_has_the_keys_that_the_exporter_knows() {
    let schema = schema();
    let definitions = &schema["definitions"];
    let program = |extra: Value| {
        let mut program = json!({"name": "a", "package": "p.json", "metrics": {}});
        program.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        json!({"programs": [program]})
    };
    let metric = |kind: &str, metric: Value| program(json!({"metrics": {kind: [metric]}}));
    let unknown = json!({"nonsense": 1});
    let label = |label: Value| metric("counters", json!({"name": "a", "labels": [label]}));
    let bucket =
        metric("histograms", json!({"name": "a", "map": "m", "bucket": {"from": "b", "nonsense": 1}}));
    for (definition, document) in [
        (&schema, unknown.clone()),
        (&definitions["program"], program(unknown.clone())),
        (&definitions["metrics"], program(json!({"metrics": unknown}))),
        (&definitions["logs"], program(json!({"logs": unknown}))),
        (&definitions["limits"], program(json!({"limits": unknown}))),
        (&definitions["label"]["anyOf"][1], label(json!({"name": "x", "nonsense": 1}))),
        (&definitions["bucket"]["anyOf"][1], bucket),
        (&definitions["otlp"], json!({"programs": [], "otlp": unknown})),
    ] {
        assert_eq!(properties(definition), known(&document), "{document}");
    }
    // Which keys a metric has depends on its kind.
    let all = known(&metric("counters", unknown));
    let kinds = ["counter", "gauge", "histogram", "info"];
    let listed: BTreeSet<String> = kinds.iter().flat_map(|kind| properties(&definitions[*kind])).collect();
    assert_eq!(listed, all);
    for kind in kinds {
        for key in &all {
            let is_allowed = is_allowed(|extra| metric(&format!("{kind}s"), extra), kind, key);
            assert_eq!(properties(&definitions[kind]).contains(key), is_allowed, "{kind}: {key}");
        }
    }
    let formats = definitions["label"]["anyOf"][1]["properties"]["as"]["enum"].clone();
    let formats: BTreeSet<String> = serde_json::from_value(formats).expect("a list");
    let names = eunomia::types::ValueFormat::names();
    let lookups = eunomia_exporter::lookup::Lookup::words();
    let known = names.split(' ').chain(lookups.split(", ")).chain(["string", "uint"]);
    assert_eq!(formats, known.map(str::to_owned).collect());
    let units = definitions["counter"]["properties"]["unit"]["enum"].clone();
    let units: Vec<String> = serde_json::from_value(units).expect("a list");
    assert_eq!(units.join(", "), eunomia_exporter::unit::words());
}

/// Whether a metric of this kind can have a key, with events or with a map.
fn is_allowed(document: impl Fn(Value) -> Value, kind: &str, key: &str) -> bool {
    let value = match key {
        "labels" => json!([]),
        "variables" => json!(["v"]),
        "buckets" => json!("log2"),
        "unit" => json!("s"),
        "scale" => json!(2.0),
        "cpu" => json!(true),
        "series" => json!(10),
        _ => json!("x"),
    };
    let name = if kind == "info" { "a_info" } else { "a_seconds" };
    let bases = [
        json!({}),
        json!({"map": "m"}),
        json!({"map": "m", "bucket": "b"}),
        json!({"variable": "v"}),
        json!({"observe": "o"}),
    ];
    bases.into_iter().any(|mut base| {
        base["name"] = json!(name);
        // The name is required, and each value must be one that is different from the default.
        base[key] = if key == "name" { json!(name) } else { value.clone() };
        config::File::parse(&document(base).to_string()).is_ok()
    })
}
