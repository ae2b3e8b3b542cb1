//! Values that a C program initialised, with types from clang.

use std::path::Path;
use std::process::Command;

use eunomia::btf::Btf;
use eunomia::render::Plan;
use eunomia::types::{Kind, Type, encode};
use serde_json::{Value, json};

const SOURCE: &str = include_str!("../data/types/values.c");

/// The object that clang compiles from `values.c`.
pub struct Object {
    pub btf: Vec<u8>,
    /// The section of its variable.
    data: Vec<u8>,
}

pub fn object() -> Object {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_string());
    let folder = tempfile_folder();
    let (source, object) = (folder.join("values.c"), folder.join("values.o"));
    std::fs::write(&source, SOURCE).unwrap();
    let arguments = ["-target", "bpf", "-g", "-O2", "-Wall", "-Werror", "-c", "-o"];
    let status = Command::new(clang).args(arguments).args([&object, &source]).status();
    assert!(status.expect("clang runs").success());
    let elf = std::fs::read(&object).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    Object { btf: section(&elf, ".BTF"), data: section(&elf, ".data") }
}

/// One directory per test thread.
fn tempfile_folder() -> std::path::PathBuf {
    let name = format!("types-{}-{:?}", std::process::id(), std::thread::current().id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Returns a section of a little-endian ELF64 file.
fn section(elf: &[u8], name: &str) -> Vec<u8> {
    let number =
        |at: usize, len: usize| elf[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | *byte as usize);
    let (table, size, count, names) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2), number(0x3e, 2));
    let header = |index: usize| table + index * size;
    let content = |index: usize| {
        number(header(index) + 0x18, 8)..number(header(index) + 0x18, 8) + number(header(index) + 0x20, 8)
    };
    let names = &elf[content(names)];
    let found = (0..count).find(|index| {
        let text = &names[number(header(*index), 4)..];
        text.starts_with(name.as_bytes()) && text[name.len()] == 0
    });
    elf[content(found.unwrap_or_else(|| panic!("a section {name}")))].to_vec()
}

#[test]
fn values_written_by_c_are_decoded() {
    let object = object();
    let btf = Btf::parse(&object.btf).unwrap();
    btf.check_for_libbpf().unwrap();
    let ty = Type::from_btf(&btf, btf.find_var("value").unwrap()).unwrap();
    assert_eq!((&*ty.name, ty.kind, ty.size), ("struct all", Kind::Struct, object.data.len()));
    let expected = concat!(
        r#"{"b":true,"c":65,"sc":-1,"uc":200,"s":-30000,"us":60000,"i":-2147483648,"u":4294967295,"#,
        r#""ll":-9223372036854775808,"ull":18446744073709551615,"w":"-5","uw":"18446744073709551617","f":0.5,"#,
        r#""d":-0.1,"col":"BLUE","unknown":77,"big":9223372036854775809,"tiny":"T9","in":{"a":7,"tag":"abcd"},"#,
        r#""pts":[{"x":1,"y":2},{"x":3,"y":4}],"m":[[1,2,3],[4,5,6]],"comm":"bash \"x\"","mac":[1,2,3,4,5,255],"#,
        r#""sb":[-1,1],"as_u32":67305985,"as_bytes":[1,2,3,4],"anon_a":-8,"anon_b":9,"un":{"ui":1065353216,"uf":1.0},"#,
        r#""bf1":-3,"bf2":21,"bf3":70000,"bf4":78187493530,"bf5":true,"bf6":"GREEN","bf7":-1000000000,"cv":5,"#,
        r#""tagged":0,"fw":4096,"fn":0,"str":0,"parr":0,"arrp":[0,8],"names":["one","four"],"empty":{},"self":0}"#,
    );
    let mut text = Vec::new();
    Plan::new(&ty).unwrap().json(&object.data, &crate::clock(), &mut text);
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn decoded_values_encode_to_the_same_bytes() {
    let object = object();
    let btf = Btf::parse(&object.btf).unwrap();
    let ty = Type::from_btf(&btf, btf.find_var("value").unwrap()).unwrap();
    let mut text = Vec::new();
    let plan = Plan::new(&ty).unwrap();
    plan.json(&object.data, &crate::clock(), &mut text);
    let mut value: Value = serde_json::from_slice(&text).unwrap();
    // A full array has no space for the NUL of a string, so set it from numbers.
    value["comm"] = json!(b"bash \"x\"");
    value["in"]["tag"] = json!(b"abcd");
    value["names"][1] = json!(b"four");
    let mut bytes = vec![0xff; ty.size];
    encode(&ty, &value, &mut bytes).unwrap();
    assert_eq!(bytes, object.data);
}

#[test]
fn type_names_are_those_of_the_source() {
    let btf = Btf::parse(&object().btf).unwrap();
    let ty = Type::from_btf(&btf, btf.find_struct("all").unwrap()).unwrap();
    for (member, spelling) in [
        ("ull", "__u64"),
        ("w", "__int128"),
        ("pts", "point_t[2]"),
        ("m", "int[2][3]"),
        ("cv", "int"),
        ("tagged", "int *"),
        ("fw", "struct fwd *"),
        ("fn", "void (*)()"),
        ("str", "char *"),
        ("parr", "int (*)[3]"),
        ("arrp", "int *[2]"),
        ("col", "enum color"),
        ("self", "struct all *"),
    ] {
        assert_eq!(ty.member(member).unwrap().ty.name, spelling, "{member}");
    }
}
