//! `ewasm-skel.h`: a package as a string of C, so that a WASM module can carry it.

/// The file it goes to.
pub const NAME: &str = "ewasm-skel.h";

/// The header for a package in JSON.
pub fn text(package: &[u8]) -> Vec<u8> {
    let mut text = b"// Written by ecc from a package; changes are lost.\n\
        #ifndef EWASM_JSON_INCLUDE_H_\n\
        #define EWASM_JSON_INCLUDE_H_\n\n\
        char *program_data = (char *)\""
        .to_vec();
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
    text.extend(b"\";\n\n#endif\n");
    text
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn what_c_takes_for_something_else_is_escaped() {
        let text = String::from_utf8(text("{\"a\\n\":\"??=\u{1}1é\t\"}".as_bytes())).unwrap();
        assert!(text.contains(r#"(char *)"{\"a\\n\":\"\?\?=\0011é\011\"}";"#), "{text}");
    }
}
