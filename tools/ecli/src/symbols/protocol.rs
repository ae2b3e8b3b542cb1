//! The protocol between ecli and the process that reads symbols: one request and one reply of bounded size, made of numbers
//! and length-prefixed strings.
//!
//! Neither side trusts the other. A message of the wrong length or count is invalid.

/// Size limit of a message.
pub const MAX_MESSAGE: usize = 128 << 10;

/// Limit on the addresses or offsets in a request.
pub const MAX_NUMBERS: usize = 128;

/// Length limit of a name. Longer names are cut.
pub const MAX_NAME: usize = 512;

/// Length limit of a path. Addresses in files with longer paths have no names.
const MAX_PATH: usize = 4096;

/// The kind of a request. All but `Vdso` include a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Names of kernel addresses. The file kallsyms is sent once.
    Kernel = 1,
    /// Mappings of addresses, from the maps of a process.
    Mappings,
    /// Names of offsets in an ELF file.
    File,
    /// Names of addresses, from a perf map.
    PerfMap,
    /// Names of offsets in the vDSO.
    Vdso,
}

const TASKS: [Task; 5] = [Task::Kernel, Task::Mappings, Task::File, Task::PerfMap, Task::Vdso];

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub task: Task,
    pub numbers: Vec<u64>,
}

/// The content of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    File = 1,
    Vdso,
    Anonymous,
}

/// The mapping that contains an address.
#[derive(Debug, PartialEq, Eq)]
pub struct Mapping {
    pub backing: Backing,
    pub start: u64,
    pub end: u64,
    /// The offset of the address in the file.
    pub offset: u64,
    pub path: String,
}

impl Mapping {
    /// Whether the addresses of both can be looked up in one request.
    pub fn is_with(&self, other: &Mapping) -> bool {
        let is_alike = self.backing == other.backing && self.backing != Backing::File;
        is_alike || (self.start, self.end) == (other.start, other.end)
    }
}

/// A function, and the offset of an address in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    pub offset: u64,
}

impl Request {
    /// Encodes the request.
    pub fn encode(&self) -> Vec<u8> {
        let numbers = self.numbers.iter().flat_map(|number| number.to_le_bytes());
        std::iter::once(self.task as u8).chain(numbers).collect()
    }

    /// Decodes a request; `None` if it is invalid.
    pub fn decode(mut bytes: &[u8]) -> Option<Request> {
        let task = take(&mut bytes)?;
        let task = TASKS.into_iter().find(|known| *known as u8 == task)?;
        let numbers = bytes.chunks(8).map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        let numbers = numbers.collect::<Option<Vec<u64>>>()?;
        (numbers.len() <= MAX_NUMBERS).then_some(Request { task, numbers })
    }
}

/// Encodes mappings in the order of the addresses. Those that do not fit the message are omitted.
pub fn encode_mappings(mappings: &[Option<Mapping>]) -> Vec<u8> {
    let mut out = Vec::new();
    for mapping in mappings {
        let fits = |mapping: &&Mapping| {
            mapping.path.len() <= MAX_PATH
                && out.len() + mapping.path.len() + 64 + mappings.len() < MAX_MESSAGE
        };
        let Some(mapping) = mapping.as_ref().filter(fits) else {
            out.push(0);
            continue;
        };
        out.push(mapping.backing as u8);
        for number in [mapping.start, mapping.end, mapping.offset] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        text(&mapping.path, &mut out);
    }
    out
}

/// Decodes the mappings of `count` addresses.
pub fn decode_mappings(mut bytes: &[u8], count: usize) -> Option<Vec<Option<Mapping>>> {
    let mut mappings = Vec::with_capacity(count);
    for _ in 0..count {
        let backing = match take(&mut bytes)? {
            0 => {
                mappings.push(None);
                continue;
            }
            1 => Backing::File,
            2 => Backing::Vdso,
            3 => Backing::Anonymous,
            _ => return None,
        };
        let (start, end, offset) = (number(&mut bytes)?, number(&mut bytes)?, number(&mut bytes)?);
        let path = take_text(&mut bytes, MAX_PATH)?;
        mappings.push((start < end).then_some(Mapping { backing, start, end, offset, path }));
    }
    bytes.is_empty().then_some(mappings)
}

/// Encodes names in the order of the addresses.
pub fn encode_names(names: &[Option<Name>]) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names {
        let Some(name) = name else {
            out.push(0);
            continue;
        };
        out.push(1);
        out.extend_from_slice(&name.offset.to_le_bytes());
        let end = (0..=MAX_NAME.min(name.text.len())).rev().find(|end| name.text.is_char_boundary(*end));
        text(&name.text[..end.unwrap_or(0)], &mut out);
    }
    out
}

/// Decodes the names of `count` addresses.
pub fn decode_names(mut bytes: &[u8], count: usize) -> Option<Vec<Option<Name>>> {
    let mut names = Vec::with_capacity(count);
    for _ in 0..count {
        names.push(match take(&mut bytes)? {
            0 => None,
            1 => {
                let offset = number(&mut bytes)?;
                Some(Name { offset, text: take_text(&mut bytes, MAX_NAME)? })
            }
            _ => return None,
        });
    }
    bytes.is_empty().then_some(names)
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn take(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn take_text(bytes: &mut &[u8], longest: usize) -> Option<String> {
    let (len, rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes(*len));
    let text = rest.get(..len).filter(|_| len <= longest)?;
    *bytes = &rest[len..];
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mappings() -> Vec<Option<Mapping>> {
        let mapping = |backing, path: &str| {
            Some(Mapping { backing, start: 4096, end: 8192, offset: 12, path: path.into() })
        };
        vec![
            mapping(Backing::File, "/usr/bin/a b"),
            None,
            mapping(Backing::Anonymous, ""),
            mapping(Backing::Vdso, "[vdso]"),
        ]
    }

    fn names() -> Vec<Option<Name>> {
        vec![
            None,
            Some(Name { text: "main".into(), offset: 17 }),
            Some(Name { text: String::new(), offset: u64::MAX }),
        ]
    }

    #[test]
    fn decoding_reverses_encoding() {
        let request = Request { task: Task::PerfMap, numbers: vec![1, u64::MAX] };
        assert_eq!(Request::decode(&request.encode()), Some(request));
        assert_eq!(decode_mappings(&encode_mappings(&mappings()), 4), Some(mappings()));
        assert_eq!(decode_names(&encode_names(&names()), 3), Some(names()));
        let long = [Some(Name { text: "é".repeat(MAX_NAME), offset: 0 })];
        let cut = decode_names(&encode_names(&long), 1).expect("it is cut");
        assert_eq!(cut[0].as_ref().map(|name| name.text.len()), Some(MAX_NAME));
    }

    #[test]
    fn the_largest_replies_fit_a_message() {
        let path = format!("/{}", "a".repeat(MAX_PATH - 1));
        let mapping =
            || Some(Mapping { backing: Backing::File, start: 1, end: 2, offset: 0, path: path.clone() });
        let mappings: Vec<_> = (0..MAX_NUMBERS).map(|_| mapping()).collect();
        let message = encode_mappings(&mappings);
        assert!(message.len() <= MAX_MESSAGE);
        let back = decode_mappings(&message, MAX_NUMBERS).expect("a message");
        assert!(back[0].is_some() && back[MAX_NUMBERS - 1].is_none());
        let names: Vec<_> =
            (0..MAX_NUMBERS).map(|_| Some(Name { text: "n".repeat(2 * MAX_NAME), offset: 1 })).collect();
        assert!(encode_names(&names).len() <= MAX_MESSAGE);
    }

    #[test]
    fn invalid_messages_are_refused() {
        let (mappings, names) = (encode_mappings(&mappings()), encode_names(&names()));
        for end in 0..mappings.len() {
            assert_eq!(decode_mappings(&mappings[..end], 4), None, "{end}");
        }
        for end in 0..names.len() {
            assert_eq!(decode_names(&names[..end], 3), None, "{end}");
        }
        for count in [0, 3, 5, usize::from(u16::MAX)] {
            assert_eq!(decode_mappings(&mappings, count), None, "{count}");
            assert_eq!(decode_names(&mappings, count), None, "{count}");
        }
        for at in 0..mappings.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = mappings.clone();
                changed[at] = value;
                // Any message is decoded to its end and not beyond.
                let _ = (decode_mappings(&changed, 4), decode_names(&changed, 4), Request::decode(&changed));
            }
        }
    }
}
