//! The parts of the kernel's BTF that the tests use: constants of enums, and functions with a tag.

pub struct Types {
    strings: Vec<u8>,
    /// The entries by id, from 1: kind, name, size or type, and the remaining words.
    entries: Vec<(u32, u32, u32, Vec<u32>)>,
}

impl Types {
    /// Reads the types of the running kernel.
    pub fn of_kernel() -> Types {
        let data = std::fs::read("/sys/kernel/btf/vmlinux").expect("the kernel has BTF");
        let word = |at: usize| u32::from_ne_bytes(data[at..at + 4].try_into().expect("four bytes"));
        let header = word(4) as usize;
        let (types, len, strings) =
            (header + word(8) as usize, word(12) as usize, header + word(16) as usize);
        let (mut entries, mut at) = (Vec::new(), types);
        while at < types + len {
            let (name, info, arg) = (word(at), word(at + 4), word(at + 8));
            let (kind, parts) = (info >> 24 & 31, info as usize & 0xffff);
            let words = match kind {
                1 | 14 | 17 => 1,
                3 => 3,
                4 | 5 | 15 | 19 => 3 * parts,
                6 | 13 => 2 * parts,
                _ => 0,
            };
            entries.push((kind, name, arg, (0..words).map(|index| word(at + 12 + 4 * index)).collect()));
            at += 12 + 4 * words;
        }
        Types { strings: data[strings..].to_vec(), entries }
    }

    fn string(&self, at: u32) -> String {
        let rest = &self.strings[at as usize..];
        let end = rest.iter().position(|byte| *byte == 0).expect("strings end");
        String::from_utf8_lossy(&rest[..end]).into_owned()
    }

    /// The constants of an enum.
    pub fn constants(&self, name: &str) -> Vec<(String, i32)> {
        let found = self.entries.iter().find(|(kind, at, ..)| *kind == 6 && self.string(*at) == name);
        let (.., words) = found.unwrap_or_else(|| panic!("the kernel has no enum {name}"));
        words.chunks_exact(2).map(|pair| (self.string(pair[0]), pair[1] as i32)).collect()
    }

    /// The functions with a tag.
    pub fn tagged(&self, tag: &str) -> Vec<String> {
        let tags = self.entries.iter().filter(|(kind, at, ..)| *kind == 17 && self.string(*at) == tag);
        let functions = tags.filter_map(|(_, _, of, _)| self.entries.get((*of as usize).checked_sub(1)?));
        functions.filter(|(kind, ..)| *kind == 12).map(|(_, name, ..)| self.string(*name)).collect()
    }
}
