//! Reading each published layout, and writing it again.

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine};
use eunomia::package::{
    CmdArg, CustomMember, ExportConfig, Interface, MapMeta, Package, Sample, SampleKind, TcPoint,
};
use serde_json::{Value, json};

use crate::fixture::{elf, f1, f2, f2_skel, packed, parse};

fn written(package: &Package) -> Value {
    serde_json::from_slice(&package.to_json()).unwrap()
}

#[test]
fn f2_tc_programs_have_hook_and_options() {
    let package =
        parse(&f2(json!({"bpf_skel":{"data_sections":[],"maps":[{"ident":"rodata","name":"tc_bpf.rodata"}],
        "obj_name":"tc_bpf","progs":[{"attach":"tc","link":true,"name":"tc_ingress",
        "tchook":{"attach_point":"BPF_TC_EGRESS","ifindex":3},"tcopts":{"handle":5,"priority":7}}]},
        "eunomia_version":"0.3.4"})));
    assert_eq!(package.object, elf());
    assert_eq!(package.meta.obj_name, "tc_bpf");
    assert_eq!(package.meta.maps[0].ident, "rodata");
    let prog = &package.meta.progs[0];
    assert_eq!((prog.name.as_str(), prog.attach.as_str()), ("tc_ingress", "tc"));
    assert_eq!(prog.target.interface, Some(Interface::Index(3)));
    assert_eq!(
        (prog.target.tc.point, prog.target.tc.handle, prog.target.tc.priority),
        (TcPoint::Egress, 5, 7)
    );
}

#[test]
fn f2_xdp_programs_have_interface_and_flags() {
    let package = parse(&f2_skel(json!({"obj_name":"xdp_bpf","data_sections":[],"maps":null,
        "progs":[{"attach":"xdp","flags":2,"ifindex":1,"link":true,"name":"xdp_pass","xdpopts":{"old_prog_fd":0}}]})));
    let target = &package.meta.progs[0].target;
    assert_eq!((target.interface.clone(), target.flags), (Some(Interface::Index(1)), 2));
    assert!(package.meta.maps.is_empty());
}

#[test]
fn f2_runqlat_samples_a_histogram_map() {
    let package = parse(&f2(json!({"bpf_skel":{"obj_name":"runqlat_bpf",
        "maps":[{"ident":"hists","name":"hists","sample":{"interval":1000,"type":"log2_hist"}}]},
        "export_types":[{"members":[{"name":"slots","type":"__u32[26]"},{"name":"comm","type":"char[16]"}],
        "name":"hist","size":120,"type_id":22}]})));
    let sample =
        Sample { interval_ms: 1000, kind: SampleKind::Log2Hist, unit: "(unit)".into(), clear_map: false };
    assert_eq!(package.meta.maps[0].sample, Some(sample));
    let hist = &package.meta.export_types[0];
    assert_eq!((hist.name.as_str(), hist.size, hist.type_id), ("hist", 120, Some(22)));
    assert_eq!((hist.members[1].name.as_str(), hist.members[1].type_text.as_str()), ("comm", "char[16]"));
    assert_eq!(hist.members[1].bit_offset, None);
}

#[test]
fn every_kind_of_sample_is_read() {
    let kind = |ty: Value| {
        let sample = json!({"interval":1,"type":ty});
        let package = parse(&f2_skel(json!({"maps":[{"name":"m","sample":sample}]})));
        package.meta.maps[0].sample.as_ref().unwrap().kind
    };
    assert_eq!(kind(json!("default_kv")), SampleKind::DefaultKv);
    assert_eq!(kind(json!("log2_hist")), SampleKind::Log2Hist);
    assert_eq!(kind(json!("linear_hist")), SampleKind::LinearHist);
    assert_eq!(kind(json!(null)), SampleKind::DefaultKv, "the default");
}

#[test]
fn f2_opensnoop_describes_an_option() {
    let package =
        parse(&f2_skel(json!({"obj_name":"opensnoop_bpf","data_sections":[{"name":".rodata","variables":[
        {"cmdarg":{"default":false,"long":"failed","short":"f"},"description":"trace only failed events",
         "name":"targ_failed","type":"bool"},
        {"name":"targ_pid","type":"int","size":4,"value":17,"cmdarg":{}}]}],
        "doc":{"description":"Trace open family syscalls."}})));
    let [failed, pid] = package.meta.vars.as_slice() else { panic!("two variables") };
    assert_eq!((failed.section.as_str(), failed.name.as_str()), (".rodata", "targ_failed"));
    assert_eq!((failed.type_text.as_str(), failed.value.as_ref()), ("bool", None));
    let option =
        CmdArg { default: Some(json!(false)), long: Some("failed".into()), short: Some('f'), help: None };
    assert_eq!(failed.cmdarg, Some(option));
    assert_eq!((pid.value.clone(), pid.cmdarg.clone()), (Some(json!(17)), Some(CmdArg::default())));
    assert_eq!(package.meta.doc.description.as_deref(), Some("Trace open family syscalls."));
}

#[test]
fn f2_lists_may_be_absent_null_or_empty() {
    for empty in
        [json!({}), json!({"maps":null,"progs":null,"data_sections":null}), json!({"maps":[],"progs":[]})]
    {
        let meta = parse(&f2_skel(empty)).meta;
        assert!(meta.maps.is_empty() && meta.progs.is_empty() && meta.vars.is_empty());
    }
}

#[test]
fn f2_reads_every_form_of_export_config() {
    let package = parse(&f2_skel(json!({"maps":[
        {"name":"a"}, {"name":"b","export_config":"no_export"}, {"name":"c","export_config":"default"},
        {"name":"d","export_config":{"btf_type_id":9}},
        {"name":"e","export_config":{"custom_members":[{"name":"x","offset":4,"btf_type_id":2}]}}]})));
    let configs: Vec<ExportConfig> = package.meta.maps.into_iter().map(|map| map.export).collect();
    let members = vec![CustomMember { name: "x".into(), offset: 4, btf_type_id: 2 }];
    assert_eq!(
        configs,
        [
            ExportConfig::Unset,
            ExportConfig::NoExport,
            ExportConfig::Default,
            ExportConfig::BtfType(9),
            ExportConfig::Members(members)
        ]
    );
}

#[test]
fn f2_options_of_the_poll_loop_are_read() {
    let meta =
        parse(&f2(json!({"bpf_skel":{},"perf_buffer_pages":128,"poll_timeout_ms":1e3,"debug_verbose":true})))
            .meta;
    assert_eq!(
        (meta.perf_buffer_pages, meta.poll_timeout_ms, meta.debug_verbose),
        (Some(128), Some(1000), true)
    );
    let meta = parse(&f2(json!({"bpf_skel":{}}))).meta;
    assert_eq!((meta.perf_buffer_pages, meta.poll_timeout_ms, meta.debug_verbose), (None, None, false));
}

#[test]
fn f2_may_begin_with_a_byte_order_mark_or_whitespace() {
    let text = f2_skel(json!({})).to_string();
    for before in ["\u{feff}", " \n\t", "\u{feff}\r\n"] {
        Package::parse(format!("{before}{text}\n").as_bytes()).unwrap();
    }
}

#[test]
fn f2_objects_are_read_at_any_compression_level_and_without_padding() {
    let mut document = f2_skel(json!({}));
    for level in 0..=10 {
        let stream = miniz_oxide::deflate::compress_to_vec_zlib(&elf(), level);
        document["bpf_object"] = BASE64_STANDARD_NO_PAD.encode(stream).into();
        assert_eq!(parse(&document).object, elf());
    }
}

#[cfg(target_endian = "little")]
#[test]
fn an_f2_object_compressed_by_zlib_is_read() {
    let mut document = f2_skel(json!({}));
    // `elf()` compressed by zlib 1.2.13 at level 1.
    document["bpf_object"] =
        "eAGrd/VxY2JkQALfkdiEmQVF+elFibnFOgq5iQVAsqSyIBVIlSUWZSYm5aQWEzaBOioAWmYOPw==".into();
    assert_eq!(parse(&document).object, elf());
}

#[test]
fn numbers_and_booleans_are_accepted_as_strings() {
    let package = parse(&f2_skel(json!({"doc":{"version":1.5,"brief":true},
        "data_sections":[{"name":".bss","variables":[{"name":"n","type":"int","description":5}]}]})));
    assert_eq!(package.meta.doc.version.as_deref(), Some("1.5"));
    assert_eq!(package.meta.doc.brief.as_deref(), Some("true"));
    assert_eq!(package.meta.vars[0].description.as_deref(), Some("5"));
}

#[test]
fn unknown_keys_survive_reading_and_writing() {
    let document = json!({"zebra":[1],"bpf_object":packed(&elf()),"apple":{"b":1,"a":2},"bpf_object_size":200,
        "meta":{"later":true,"bpf_skel":{"obj_name":"x","extra":null,
            "data_sections":[{"name":".data","variables":[{"name":"v","type":"int","mine":{"deep":[1,2]}}]}],
            "maps":[{"name":"m","mmaped":true,"intepreter":"default_struct"}],
            "progs":[{"name":"p","attach":"xdp","link":true,"author":"someone"}]},"eunomia_version":"0.3.4"}});
    let first = parse(&document);
    let text = first.to_json();
    let second = Package::parse(&text).unwrap();
    assert_eq!((&second.object, &second.meta), (&first.object, &first.meta));
    assert_eq!(second.to_json(), text);
    let mut expected = document.clone();
    expected["bpf_object"] = written(&first)["bpf_object"].clone();
    assert_eq!(String::from_utf8(text).unwrap(), expected.to_string(), "order of keys included");
    assert_eq!(first.meta_value(), &document["meta"]);
}

#[test]
fn unsigned_64_bit_numbers_stay_exact() {
    let document = f2_skel(json!({"data_sections":[{"name":".data","variables":[
        {"name":"big","type":"__u64","value":9223372036854775808_u64},{"name":"low","type":"long","value":i64::MIN}]}]}));
    let package = parse(&document);
    assert_eq!(package.meta.vars[0].value, Some(json!(9223372036854775808_u64)));
    assert_eq!(written(&package)["meta"], document["meta"]);
}

#[test]
fn runtime_args_override_values_at_every_level() {
    let skel = json!({"data_sections":[{"name":".rodata","variables":[
        {"name":"a","type":"int","value":1},{"name":"b","type":"int","value":1},{"name":"c","type":"int","value":1}]}]});
    let mut document = f2(json!({"bpf_skel":skel,"runtime_args":{"b":2,"c":2}}));
    document["runtime_args"] = json!({"c":3,"unlisted":[4]});
    let vars = parse(&document).meta.vars;
    let values: Vec<_> = vars.iter().map(|var| (var.name.as_str(), var.value.clone().unwrap())).collect();
    assert_eq!(values, [("a", json!(1)), ("b", json!(2)), ("c", json!(3)), ("unlisted", json!([4]))]);
    assert_eq!((vars[3].section.as_str(), vars[3].type_text.as_str()), ("", ""));
}

#[test]
fn metadata_and_object_are_read_from_two_files() {
    let meta =
        r#"{"bpf_skel":{"obj_name":"two_bpf","progs":[{"name":"p","attach":"xdp","link":true}]},"mine":1}"#;
    let package = Package::from_object(&elf(), Some(meta)).unwrap();
    assert_eq!((package.meta.obj_name.as_str(), package.meta.progs.len()), ("two_bpf", 1));
    let again = Package::parse(&package.to_json()).unwrap();
    assert_eq!(again.meta_value()["mine"], 1);
    assert_eq!((again.object, again.meta), (elf(), package.meta));
}

#[test]
fn an_object_alone_has_empty_metadata() {
    let package = Package::from_object(&elf(), None).unwrap();
    assert_eq!(package.meta, Default::default());
    assert_eq!(Package::parse(&package.to_json()).unwrap().object, elf());
}

#[test]
fn build_writes_what_parse_reads() {
    let meta =
        json!({"bpf_skel":{"obj_name":"made_bpf","data_sections":[],"maps":[],"progs":[]},"export_types":[]});
    let package = Package::build(&elf(), meta.clone()).unwrap();
    let document = written(&package);
    assert_eq!(document["bpf_object_size"], 200);
    assert_eq!(document["meta"], meta);
    assert!(!document["bpf_object"].as_str().unwrap().contains('\n'));
    assert_eq!(parse(&document).object, elf());
}

fn bootstrap_f1() -> Value {
    f1(json!({"version":"0.1.0","license":"GPL","maps":[
        {"name":"rb","type":"BPF_MAP_TYPE_RINGBUF","export_data_types":{"Struct Name":"event","Size":256,
            "DataSize":256,"Alignment":64,"Fields":[
            {"Name":"pid","Type":"int","LLVMType":"i32","FieldOffset":0},
            {"Name":"comm","Type":"char [16]","LLVMType":"[16 x i8]","FieldOffset":32}]}},
        {"name":"client_b.rodata","type":"BPF_MAP_TYPE_UNSPEC","sec_data":[
            {"name":"min_duration_ns","type":"unsigned long long","size":8},{"name":"flag","type":"bool","size":1}]}],
        "progs":[{"name":"handle_exec","type":"BPF_PROG_TYPE_TRACEPOINT"}],
        "runtime_args":{"min_duration_ns":5,"no_such_global":6}}))
}

#[test]
fn f1_with_folded_base64_is_read() {
    let package = parse(&bootstrap_f1());
    assert_eq!(package.object, elf());
    let meta = &package.meta;
    assert_eq!((meta.obj_name.as_str(), meta.doc.version.as_deref()), ("template", Some("0.1.0")));
    assert_eq!((meta.progs[0].name.as_str(), meta.progs[0].attach.as_str()), ("handle_exec", ""));
    let MapMeta { name, type_text, export_type, .. } = &meta.maps[0];
    assert_eq!((name.as_str(), type_text.as_deref()), ("rb", Some("BPF_MAP_TYPE_RINGBUF")));
    let event = export_type.as_ref().unwrap();
    assert_eq!((event.name.as_str(), event.size), ("event", 32));
    let comm = &event.members[1];
    assert_eq!((comm.name.as_str(), comm.type_text.as_str()), ("comm", "char [16]"));
    assert_eq!((comm.llvm_type.as_deref(), comm.bit_offset), (Some("[16 x i8]"), Some(32)));
    assert_eq!(meta.maps[1].ident, "rodata");
}

#[test]
fn f1_runtime_args_set_global_variables_and_others_are_ignored() {
    let vars = parse(&bootstrap_f1()).meta.vars;
    assert_eq!(vars.len(), 2);
    assert_eq!((vars[0].section.as_str(), vars[0].name.as_str()), (".rodata", "min_duration_ns"));
    assert_eq!((vars[0].type_text.as_str(), vars[0].value.clone()), ("unsigned long long", Some(json!(5))));
    assert_eq!(vars[1].value, None);
}

#[test]
fn f1_written_as_f2_means_the_same() {
    let package = parse(&bootstrap_f1());
    let document = written(&package);
    assert_eq!(document["license"], "GPL");
    assert!(document.get("data").is_none() && document.get("runtime_args").is_none());
    // Loaders of layout F2 need these keys, which F1 does not have.
    let prog = json!({"name":"handle_exec","type":"BPF_PROG_TYPE_TRACEPOINT","attach":"","link":true});
    assert_eq!(document["meta"]["bpf_skel"]["progs"], json!([prog]));
    let again = parse(&document);
    assert_eq!((again.object, again.meta), (package.object.clone(), package.meta.clone()));
}

#[test]
fn f0_has_pseudo_types_and_no_event_types() {
    let package = parse(&f1(json!({"load_ebpf_script":"","license":"GPL","author":"a","url":"u",
        "description":"first","maps":[{"name":"events","type":"BPF_MAP_TYPE_PERF_EVENT_ARRAY"},
        {"name":"client_b.rodata","type":"RODATA"}],"progs":[{"name":"p","type":"BPF_PROG_TYPE_TRACEPOINT"}]})));
    assert_eq!(package.meta.doc.description.as_deref(), Some("first"));
    assert_eq!(package.meta.maps[1].type_text.as_deref(), Some("RODATA"));
    assert!(package.meta.maps.iter().all(|map| map.export_type.is_none()));
    assert_eq!(written(&package)["author"], "a");
}

#[test]
fn f1_lists_may_be_absent_or_null() {
    for rest in [json!({}), json!({"maps":null,"progs":null,"runtime_args":null})] {
        assert!(parse(&f1(rest)).meta.maps.is_empty());
    }
}

#[test]
fn the_f2_draft_names_its_structs() {
    let mut document = f2(json!({"bpf_skel":{"obj_name":"d","progs":[{"name":"p","link":true}],
        "data_sections":[{"name":".rodata","variables":[{"align":8,"offset":0,"size":8,"name":"v","type":"long long unsigned int"}]}]},
        "export_types":{"export_btf":"n+sBAA==","structs":[{"id":3,"name":"event"}]}}));
    document.as_object_mut().unwrap().remove("bpf_object_size");
    let meta = parse(&document).meta;
    assert_eq!((meta.export_types[0].name.as_str(), meta.export_types[0].type_id), ("event", None));
    assert_eq!((meta.progs[0].name.as_str(), meta.vars[0].name.as_str()), ("p", "v"));
}
