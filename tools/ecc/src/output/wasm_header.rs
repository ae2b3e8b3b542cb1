//! `ewasm-skel.h`: a package as a string of C, so that a WASM module can carry it, or several.

/// The file it goes to, or with a name and a dot before that one of several.
pub const NAME: &str = "ewasm-skel.h";

/// The header for a package in JSON, `name` as C writes names: it is `NAME_package`, and the first one that is included is
/// `program_data` too, as eunomia-bpf called it.
pub fn text(name: &str, package: &[u8]) -> Vec<u8> {
    let guard = format!("{}_EWASM_SKEL_H_", name.to_uppercase());
    let mut text = format!(
        "// Written by ecc from a package; changes are lost.\n#ifndef {guard}\n#define {guard}\n\n\
         char {name}_package[] = \""
    )
    .into_bytes();
    for &byte in package {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', byte]),
            // Two question marks may begin a trigraph.
            b'?' => text.extend(b"\\?"),
            // Three digits, so that one that follows does not belong to it.
            0..0x20 | 0x7f => text.extend(format!("\\{byte:03o}").into_bytes()),
            _ => text.push(byte),
        }
    }
    text.extend(
        format!(
            "\";\n\n#ifndef EWASM_JSON_INCLUDE_H_\n#define EWASM_JSON_INCLUDE_H_\n\
             char *program_data = {name}_package;\n#endif\n\n#endif\n"
        )
        .into_bytes(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn what_c_takes_for_something_else_is_escaped() {
        let text = String::from_utf8(text("x", "{\"a\\n\":\"??=\u{1}1é\t\"}".as_bytes())).unwrap();
        assert!(text.contains(r#"x_package[] = "{\"a\\n\":\"\?\?=\0011é\011\"}";"#), "{text}");
    }
}
