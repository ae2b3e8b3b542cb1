//! Writes BTF, valid or not. Each method appends a type and returns its id.

pub const SIGNED: u32 = 1;
pub const BOOL: u32 = 4;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
pub const STRUCT: u32 = 4;
pub const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
pub const TYPEDEF: u32 = 8;
pub const CONST: u32 = 10;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
pub const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// A member: name, type, and offset in bits.
type Member<'a> = (&'a str, u32, u32);

#[derive(Clone)]
pub struct Blob {
    types: Vec<u32>,
    strings: Vec<u8>,
    next: u32,
    /// The end of each entry in the types, in bytes.
    pub ends: Vec<usize>,
}

impl Blob {
    pub fn new() -> Blob {
        Blob { types: Vec::new(), strings: vec![0], next: 1, ends: Vec::new() }
    }

    /// Returns the length of the types in bytes.
    pub fn types_len(&self) -> usize {
        4 * self.types.len()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let types_len = self.types_len() as u32;
        let header = [24, 0, types_len, types_len, self.strings.len() as u32];
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend(header.iter().chain(&self.types).flat_map(|word| word.to_le_bytes()));
        bytes.extend(&self.strings);
        bytes
    }

    pub fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        offset
    }

    /// Appends any entry, followed by `words`.
    pub fn entry(&mut self, name: &str, kind: u32, count: usize, flag: bool, arg: u32, words: &[u32]) -> u32 {
        let name = self.string(name);
        self.types.extend([name, kind << 24 | count as u32 | u32::from(flag) << 31, arg]);
        self.types.extend(words);
        self.ends.push(self.types_len());
        self.next += 1;
        self.next - 1
    }

    pub fn int(&mut self, name: &str, size: u32, encoding: u32) -> u32 {
        self.entry(name, INT, 0, false, size, &[(encoding << 24) | (8 * size)])
    }

    /// Appends an integer with a bit offset and size, as older compilers wrote for bit-fields.
    pub fn int_bits(&mut self, name: &str, size: u32, encoding: u32, offset: u32, bits: u32) -> u32 {
        self.entry(name, INT, 0, false, size, &[encoding << 24 | offset << 16 | bits])
    }

    pub fn float(&mut self, name: &str, size: u32) -> u32 {
        self.entry(name, FLOAT, 0, false, size, &[])
    }

    pub fn ptr(&mut self, to: u32) -> u32 {
        self.entry("", PTR, 0, false, to, &[])
    }

    pub fn array(&mut self, element: u32, count: u32) -> u32 {
        self.entry("", ARRAY, 0, false, 0, &[element, element, count])
    }

    /// Appends a typedef, qualifier or tag.
    pub fn alias(&mut self, kind: u32, name: &str, of: u32) -> u32 {
        self.entry(name, kind, 0, false, of, &[])
    }

    pub fn fwd(&mut self, name: &str) -> u32 {
        self.entry(name, FWD, 0, false, 0, &[])
    }

    pub fn structure(&mut self, kind: u32, name: &str, size: u32, members: &[Member]) -> u32 {
        let words = self.members(members);
        self.entry(name, kind, members.len(), false, size, &words)
    }

    pub fn bit_fields(&mut self, name: &str, size: u32, members: &[(&str, u32, (u32, u32))]) -> u32 {
        let members: Vec<Member> =
            members.iter().map(|(name, ty, (bit, width))| (*name, *ty, bit | width << 24)).collect();
        let words = self.members(&members);
        self.entry(name, STRUCT, members.len(), true, size, &words)
    }

    fn members(&mut self, members: &[Member]) -> Vec<u32> {
        members.iter().flat_map(|(name, ty, offset)| [self.string(name), *ty, *offset]).collect()
    }

    pub fn enumeration(&mut self, name: &str, size: u32, signed: bool, constants: &[(&str, i32)]) -> u32 {
        let words: Vec<u32> =
            constants.iter().flat_map(|(name, value)| [self.string(name), *value as u32]).collect();
        self.entry(name, ENUM, constants.len(), signed, size, &words)
    }

    pub fn enumeration64(&mut self, name: &str, signed: bool, constants: &[(&str, u64)]) -> u32 {
        let words: Vec<u32> = constants
            .iter()
            .flat_map(|(name, value)| [self.string(name), *value as u32, (value >> 32) as u32])
            .collect();
        self.entry(name, ENUM64, constants.len(), signed, 8, &words)
    }

    pub fn func(&mut self, name: &str, parameters: &[(&str, u32)]) -> u32 {
        let words: Vec<u32> = parameters.iter().flat_map(|(name, ty)| [self.string(name), *ty]).collect();
        let proto = self.entry("", FUNC_PROTO, parameters.len(), false, 0, &words);
        self.entry(name, FUNC, 1, false, proto, &[])
    }

    pub fn var(&mut self, name: &str, ty: u32) -> u32 {
        self.entry(name, VAR, 0, false, ty, &[1])
    }

    pub fn datasec(&mut self, name: &str, variables: &[u32]) -> u32 {
        let words: Vec<u32> = variables.iter().flat_map(|id| [*id, 0, 4]).collect();
        self.entry(name, DATASEC, variables.len(), false, 4, &words)
    }

    pub fn decl_tag(&mut self, text: &str, on: u32) -> u32 {
        self.entry(text, DECL_TAG, 0, false, on, &[u32::MAX])
    }
}
