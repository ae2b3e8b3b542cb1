//! Tests of the configuration.

use super::*;

const MANUAL: &str = "\
programs:
  - name: opensnoop
    metrics:
      counters:
        - name: eunomia_file_open_counter
          description: test
          labels:
            - name: pid
            - name: comm
            - name: filename
              from: fname
    compiled_ebpf_filename: examples/bpftools/opensnoop/package.json
";

fn problem(text: &str) -> String {
    File::parse(text).unwrap_err().to_string()
}

#[test]
fn the_configuration_of_the_manual_is_accepted() {
    let file = File::parse(MANUAL).unwrap();
    let program = &file.programs[0].value;
    let (kind, metric) = program.metrics().next().unwrap();
    assert_eq!((kind, &*metric.value.name), (Kind::Counter, "eunomia_file_open_counter"));
    let fields: Vec<_> = metric.value.labels.iter().map(|label| label.value.field().to_owned()).collect();
    assert_eq!(fields, ["pid", "comm", "fname"]);
}

#[test]
fn json_is_accepted_too() {
    let text = r#"{"programs":[{"name":"a","ebpf_data":"{}","metrics":{"counters":[{"name":"b","labels":["pid"]}]}}]}"#;
    assert_eq!(File::parse(text).unwrap().programs[0].value.metrics().count(), 1);
}

#[test]
fn problems_name_the_line_and_what_is_expected() {
    let with = |from: &str, to: &str| {
        assert!(MANUAL.contains(from), "{from}");
        problem(&MANUAL.replacen(from, to, 1))
    };
    for (from, to, expected) in [
        ("description", "descripton", "line 6, column 11: unknown field `descripton`"),
        (
            "name: pid",
            "name: p-id",
            "line 8, column 15: counter \"eunomia_file_open_counter\": \"p-id\" is not a name for Prometheus",
        ),
        ("name: comm", "name: pid", "there are two labels called \"pid\""),
        ("eunomia_file_open_counter", "9", "line 5, column 11"),
        (
            "    compiled_ebpf_filename: examples/bpftools/opensnoop/package.json\n",
            "",
            "program \"opensnoop\" has no package",
        ),
        (
            "description: test",
            "slots: value",
            "counter \"eunomia_file_open_counter\": a counter without map has no key \"slots\"",
        ),
        (
            "description: test",
            "unit: ns",
            "unit \"ns\" is converted to seconds, so the name must end in _seconds",
        ),
        ("description: test", "unit: weeks", "unit: expected one of ns, us"),
        ("description: test", "scale: -1", "scale: expected a number above 0, found -1"),
        ("description: test", "series: 0", "series: expected 1 to 1000000, found 0"),
        ("counters", "histograms", "a histogram needs observe"),
        ("counters", "gauges", "a gauge needs map"),
        ("name: opensnoop", "name: ''", "the name of a program must have 1 to 256 bytes"),
        ("labels:", "labels: 7 #", "line 7"),
    ] {
        let text = with(from, to);
        assert!(text.contains(expected), "{from} -> {to}: {text}");
    }
}

#[test]
fn hostile_files_are_refused_quickly() {
    let bomb = {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let list = vec![format!("*a{}", level - 1); 9].join(",");
            text += &format!("a{level}: &a{level} [{list}]\n");
        }
        text + "programs: *a8\n"
    };
    // Almost the maximum size, with as many values as possible.
    let full = |item: &str| item.repeat(MAX_FILE as usize / item.len() - 20);
    let large = [
        format!("programs: [{}]", full("a,")),
        format!("programs:\n{}", full("- name: x\n  metrics: {}\n  ebpf_data: x\n")),
        format!("programs: \"{}\"", full("\\u0000")),
    ];
    for text in &large {
        let why = File::parse(text).unwrap_err().to_string();
        assert!(!why.is_empty() && why.len() < 1000, "{}", &why[..why.len().min(1000)]);
    }
    let begun = std::time::Instant::now();
    for text in [&*bomb, &"[".repeat(100_000), "programs: 1", "programs:", "", "\u{0}", "programs: [", "- a"]
    {
        assert!(File::parse(text).is_err(), "{:?}", &text[..text.len().min(40)]);
    }
    assert!(begun.elapsed().as_secs() < 5);
}

#[test]
fn times_have_units() {
    let parse = |text: &str| Idle::try_from(text.to_owned()).ok().map(|idle| idle.0);
    assert_eq!(["30", "30s", "10m", "2h"].map(parse), [Some(30), Some(30), Some(600), Some(7200)]);
    assert_eq!(["", "m", "-1s", "1d", "9999999999h"].map(parse), [None; 5]);
}
