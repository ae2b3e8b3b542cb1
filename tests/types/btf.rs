//! Finding types in BTF, their layout and their names.

use eunomia::btf::Btf;
use eunomia::error::Status;
use eunomia::types::{Kind, Type};

use crate::blob::{Blob, CONST, SIGNED, STRUCT, TYPE_TAG, TYPEDEF, UNION};
use crate::last_type;

#[test]
fn types_are_found_by_name() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let event = blob.structure(STRUCT, "event", 4, &[("pid", int, 0)]);
    let either = blob.structure(UNION, "either", 4, &[("a", int, 0)]);
    blob.fwd("elsewhere");
    let alias = blob.alias(TYPEDEF, "event_t", event);
    let constant = blob.alias(CONST, "", alias);
    let var = blob.var("last_event", constant);
    blob.decl_tag(&"a text of any length ".repeat(100), var);
    blob.datasec(".bss", &[var]);
    let btf = Btf::parse(&blob.bytes()).unwrap();
    assert_eq!(btf.len(), 10, "nine types and void");
    for (id, name) in [(event, Some("event")), (constant, None), (0, None), (99, None)] {
        assert_eq!(btf.name(id), name, "name of type {id}");
    }
    for (name, id) in [("event", Some(event)), ("either", Some(either)), ("elsewhere", None), ("", None)] {
        assert_eq!(btf.find_struct(name), id, "struct {name:?}");
    }
    for (name, ty) in [("last_event", Some(constant)), ("event", None)] {
        assert_eq!(btf.find_var(name), ty, "type of variable {name:?}");
    }
    for (id, is_struct) in
        [(event, true), (constant, true), (either, true), (int, false), (var, false), (99, false)]
    {
        assert_eq!(btf.is_struct(id), is_struct, "whether type {id} is a struct");
    }
    for id in [var, constant] {
        let ty = Type::from_btf(&btf, id).unwrap();
        assert_eq!((&*ty.name, ty.size), ("event_t", 4), "layout of type {id}");
    }
}

#[test]
fn names_are_spelt_as_in_c() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let character = blob.int("char", 1, SIGNED);
    let u32 = blob.alias(TYPEDEF, "__u32", int);
    let sock = blob.fwd("sock");
    let sock_ptr = blob.ptr(sock);
    let const_char = blob.alias(CONST, "", character);
    let text = blob.ptr(const_char);
    let void_ptr = blob.ptr(0);
    let tagged = blob.alias(TYPE_TAG, "user", int);
    let row = blob.array(int, 3);
    let array_ptr = blob.ptr(row);
    let proto = blob.func("f", &[("x", int)]) - 1;
    let callback = blob.ptr(proto);
    let color = blob.enumeration("color", 4, false, &[]);
    let nameless = blob.structure(STRUCT, "", 4, &[("x", int, 0)]);
    let either = blob.structure(UNION, "either", 4, &[("x", int, 0)]);
    let members = [
        ("a", u32, "__u32"),
        ("b", sock_ptr, "struct sock *"),
        ("c", text, "char *"),
        ("d", void_ptr, "void *"),
        ("e", blob.ptr(tagged), "int *"),
        ("f", blob.array(row, 2), "int[2][3]"),
        ("g", blob.array(sock_ptr, 4), "struct sock *[4]"),
        ("h", array_ptr, "int (*)[3]"),
        ("i", callback, "void (*)()"),
        ("j", color, "enum color"),
        ("k", nameless, "struct {...}"),
        ("l", either, "union either"),
        ("m", blob.array(array_ptr, 2), "int (*[2])[3]"),
        ("n", blob.ptr(sock_ptr), "struct sock **"),
        ("o", blob.array(u32, 26), "__u32[26]"),
        ("p", blob.array(callback, 2), "void (*[2])()"),
    ];
    let placed: Vec<_> = (0..).zip(&members).map(|(i, (name, ty, _))| (*name, *ty, 1024 * i)).collect();
    blob.structure(STRUCT, "all", 16 * 128, &placed);
    let all = last_type(&blob);
    assert_eq!(all.name, "struct all");
    for (field, (name, _, spelling)) in all.fields.iter().zip(&members) {
        assert_eq!((&*field.name, &*field.ty.name), (*name, *spelling));
    }
    assert_eq!(all.name.as_c_str(), c"struct all");
}

#[test]
fn the_members_of_a_type_are_found() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let row = blob.array(int, 3);
    let grid = blob.array(row, 2);
    let color = blob.enumeration("color", 4, true, &[("RED", 0), ("NONE", -1)]);
    let inner = blob.structure(STRUCT, "", 4, &[("hidden", int, 0)]);
    blob.structure(STRUCT, "event", 40, &[("grid", grid, 0), ("color", color, 192), ("", inner, 224)]);
    let event = last_type(&blob);
    assert_eq!((event.kind, event.size, event.fields.len()), (Kind::Struct, 40, 3));
    let grid = &event.fields[0].ty;
    assert_eq!((grid.kind, grid.count, grid.size), (Kind::Array, 2, 24));
    let row = grid.elem.as_ref().unwrap();
    assert_eq!((&*row.name, row.count, row.elem.as_ref().unwrap().kind), ("int[3]", 3, Kind::Int));
    let color = &event.fields[1].ty;
    let constants: Vec<_> = color.fields.iter().map(|c| (&*c.name, c.value)).collect();
    assert_eq!((color.kind, color.signed, constants), (Kind::Enum, true, vec![("RED", 0), ("NONE", -1)]));
    let hidden = event.member("hidden").unwrap();
    assert_eq!((hidden.bit_offset, hidden.bit_size, hidden.is_bit_field()), (224, 32, false));
    assert_eq!(event.fields[2].name, "");
    assert!(event.member("x").is_none() && event.member("").is_none() && grid.member("x").is_none());
}

#[test]
fn types_without_values_have_no_layout() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let fwd = blob.fwd("elsewhere");
    let func = blob.func("f", &[]);
    let var = blob.var("v", int);
    let section = blob.datasec(".bss", &[var]);
    let of_void = blob.array(0, 4);
    let member = blob.structure(STRUCT, "s", 4, &[("later", fwd, 0)]);
    let btf = Btf::parse(&blob.bytes()).unwrap();
    for id in [0, fwd, func, func - 1, section, of_void, member, 1000] {
        assert_eq!(Type::from_btf(&btf, id).unwrap_err().status(), Status::Package, "type {id}");
    }
}
