//! Targets in packages and from hosts.

use eunomia::error::Status;
use eunomia::package::{Interface, Package, Perf, PerfSample, Target, Tc, TcPoint, split_offset};
use serde_json::{Value, json};

use crate::fixture::{f2_skel, parse};

fn one(value: Value) -> Target {
    let targets = Target::parse(&value, "target").unwrap_or_else(|error| panic!("{error}: {value}"));
    let [target] = targets.as_slice() else { panic!("one target") };
    target.clone()
}

fn refusal(value: Value) -> String {
    let error = Target::parse(&value, "target").expect_err("this should be refused");
    assert_eq!(error.status(), Status::Package);
    error.message().to_owned()
}

#[test]
fn an_empty_target_has_the_defaults() {
    assert_eq!(one(json!({})), Target::default());
    assert_eq!(Target::default().tc, Tc { point: TcPoint::Ingress, handle: 1, priority: 1 });
}

#[test]
fn every_key_is_read() {
    let target = one(
        json!({"attach":"uprobe","interface":"eth0","flags":4,"path":"/bin/bash","func":"readline",
        "offset":16,"build_id":"0aff","pid":-1,"cgroup":"/sys/fs/cgroup/x","tchook":{"attach_point":"BPF_TC_CUSTOM"},"tcopts":{"handle":2},
        "perf_event":{"type":"hardware","config":"instructions","period":1000}}),
    );
    let perf = Perf { kind: 0, config: 1, sample: PerfSample::Period(1000) };
    let expected = Target {
        attach: Some("uprobe".into()),
        interface: Some(Interface::Name("eth0".into())),
        flags: 4,
        tc: Tc { point: TcPoint::Custom, handle: 2, priority: 1 },
        path: Some("/bin/bash".into()),
        func: Some("readline".into()),
        offset: Some(16),
        address: None,
        build_id: Some("0aff".into()),
        pid: Some(-1),
        cgroup: Some("/sys/fs/cgroup/x".into()),
        perf: Some(perf),
    };
    assert_eq!(target, expected);
}

#[test]
fn offsets_and_addresses_are_numbers_or_strings() {
    assert_eq!(one(json!({"offset":"0x1c"})).offset, Some(0x1c));
    assert_eq!(one(json!({"offset":"28"})).offset, Some(28));
    assert_eq!(one(json!({"address":u64::MAX})).address, Some(u64::MAX));
    for (text, split) in [
        ("main", ("main", 0)),
        ("main+0x1c", ("main", 28)),
        ("main+28", ("main", 28)),
        ("a+b+1", ("a+b", 1)),
        ("operator+", ("operator+", 0)),
        ("f+g", ("f+g", 0)),
        ("+5", ("", 5)),
    ] {
        assert_eq!(split_offset(text), split, "{text}");
    }
}

#[test]
fn unknown_keys_are_refused_and_the_known_ones_listed() {
    let known = "attach, path, func, offset, address, build_id, pid, cgroup, perf_event, interface, ifindex, flags, \
                 tchook, tcopts";
    for key in ["pidd", "", "Path", "name"] {
        assert_eq!(
            refusal(json!({key: null})),
            format!("target: unknown key {key:?}; the keys are: {known}")
        );
    }
    assert_eq!(
        refusal(json!([{"pid":1},{"tchook":{"attach":"BPF_TC_EGRESS"}}])),
        "target[1].tchook: unknown key \"attach\"; the keys are: ifindex, attach_point"
    );
    assert_eq!(
        refusal(json!({"tcopts":{"prio":1}})),
        "target.tcopts: unknown key \"prio\"; the keys are: handle, priority"
    );
    assert_eq!(
        refusal(json!({"perf_event":{"freq":1}})),
        "target.perf_event: unknown key \"freq\"; the keys are: type, config, frequency, period"
    );
    // In a package, a program may have other keys, too.
    let prog = |keys: Value| {
        let mut prog = json!({"name":"a","attach":"xdp","link":true});
        prog.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        f2_skel(json!({ "progs": [prog] }))
    };
    parse(&prog(json!({"flags":0,"ifindex":1,"xdpopts":{"old_prog_fd":0},"author":"me"})));
    let tc =
        json!({"tchook":{"attach_point":"BPF_TC_INGRESS","ifindex":1},"tcopts":{"handle":1,"priority":1}});
    parse(&prog(tc));
    let refused = Package::parse(prog(json!({"tcopts":{"prio":1}})).to_string().as_bytes()).unwrap_err();
    assert!(refused.message().contains("progs[0].tcopts: unknown key \"prio\""), "{refused}");
}

#[test]
fn an_array_specifies_several_targets() {
    let targets = Target::parse(&json!([{"ifindex":1},{"ifindex":"lo"}]), "target").unwrap();
    let interfaces: Vec<_> = targets.into_iter().map(|target| target.interface.unwrap()).collect();
    assert_eq!(interfaces, [Interface::Index(1), Interface::Name("lo".into())]);
    assert_eq!(Target::parse(&json!([]), "target").unwrap(), []);
}

#[test]
fn the_most_explicit_interface_takes_precedence() {
    let interface = |value| one(value).interface.unwrap();
    let named = Interface::Name("eth1".into());
    assert_eq!(interface(json!({"interface":"eth1","ifindex":1,"tchook":{"ifindex":2}})), named);
    assert_eq!(interface(json!({"ifindex":1,"tchook":{"ifindex":2}})), Interface::Index(2));
    assert_eq!(interface(json!({"tchook":{"ifindex":"eth1"}})), named);
    assert_eq!(interface(json!({"interface":3})), Interface::Index(3));
}

#[test]
fn perf_events_are_read_by_name_and_by_number() {
    let perf = |value| {
        let Perf { kind, config, sample } = one(json!({"perf_event":value})).perf.unwrap();
        (kind, config, sample)
    };
    let usual = PerfSample::Frequency(99);
    assert_eq!(perf(json!({})), (1, 0, usual));
    assert_eq!(perf(json!({"type":"hardware"})), (0, 0, usual));
    assert_eq!(perf(json!({"config":"cycles"})), (0, 0, usual));
    assert_eq!(perf(json!({"config":"page-faults","period":1})), (1, 2, PerfSample::Period(1)));
    assert_eq!(perf(json!({"type":4,"config":u64::MAX})), (4, u64::MAX, usual));
    assert_eq!(
        perf(json!({"type":"tracepoint","config":7,"frequency":1e3})),
        (2, 7, PerfSample::Frequency(1000))
    );
}

#[test]
fn programs_in_packages_have_the_keys_of_targets() {
    let progs = parse(&f2_skel(json!({"progs":[
        {"name":"a","attach":"perf_event","perf_event":{"config":"task-clock"}},
        {"name":"b","attach":"sockops","cgroup":"/sys/fs/cgroup"}]})))
    .meta
    .progs;
    assert_eq!(progs[0].target.perf.as_ref().unwrap().config, 1);
    assert_eq!((progs[1].attach.as_str(), progs[1].target.attach.as_ref()), ("sockops", None));
    assert_eq!(progs[1].target.cgroup.as_deref(), Some("/sys/fs/cgroup"));
}

#[test]
fn invalid_targets_name_the_key() {
    for (value, message) in [
        (json!(5), "target: expected an object, found 5"),
        (json!([{}, []]), "target[1]: expected an object, found an array"),
        (json!({"ifindex":0}), "target.ifindex: expected a whole number of at least 1, found 0"),
        (json!({"ifindex":true}), "target.ifindex: expected the index or name of an interface, found true"),
        (json!({"interface":"0123456789abcdef"}), "target.interface: an interface name has at most 15 bytes"),
        (json!({"interface":""}), "target.interface: a name must not be empty"),
        (json!({"pid":1e10}), "target.pid: expected a whole number of 32 bits, found 10000000000.0"),
        (json!({"path":"a\0"}), "target.path: expected a path, found \"a\\u0000\""),
        (json!({"flags":-1}), "target.flags: expected a whole number, found -1"),
        (json!({"tcopts":1}), "target.tcopts: expected an object, found 1"),
        (
            json!({"tchook":{"attach_point":"EGRESS"}}),
            "target.tchook.attach_point: expected BPF_TC_INGRESS, BPF_TC_EGRESS or BPF_TC_CUSTOM, found \"EGRESS\"",
        ),
        (json!({"offset":-1}), "target.offset: expected a whole number, found -1"),
        (json!({"offset":"0x"}), "target.offset: expected a whole number, found \"0x\""),
        (json!({"address":1,"func":"f"}), "target.func: cannot be combined with address"),
        (json!({"offset":1,"address":"0x1"}), "target.offset: cannot be combined with address"),
        (
            json!({"build_id":"0AFF"}),
            "target.build_id: expected a build id in lower-case hexadecimal digits, found \"0AFF\"",
        ),
        (json!({"perf_event":{"type":"raw"}}), "target.perf_event.config: missing"),
        (
            json!({"perf_event":{"type":"software","config":"cycles"}}),
            "target.perf_event.config: expected a number or the name of an event of that type, found \"cycles\"",
        ),
        (
            json!({"perf_event":{"frequency":1,"period":1}}),
            "target.perf_event.period: cannot be combined with frequency",
        ),
        (
            json!({"perf_event":{"frequency":0}}),
            "target.perf_event.frequency: expected a whole number of at least 1, found 0",
        ),
    ] {
        assert_eq!(refusal(value), message);
    }
}
