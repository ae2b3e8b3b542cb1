//! Shared by the targets: types built from the input, and checks after each input.

#[path = "../../types/blob.rs"]
#[allow(dead_code, missing_docs)] // used in part
mod blob;

use eunomia::btf::Btf;
use eunomia::types::{MemberFormats, Type, ValueFormat};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use std::sync::Arc;

use blob::{BOOL, Blob, CONST, SIGNED, STRUCT, TYPE_TAG, TYPEDEF, UNION};

/// A small valid object, for damaged metadata.
pub const OBJECT: &[u8] = include_bytes!("../seeds/object/hello");

/// A type built from the input.
pub struct Made {
    /// The type.
    pub ty: Arc<Type>,
    /// Whether no byte belongs to two values.
    pub is_plain: bool,
    /// Whether each value has a unique name.
    pub has_names: bool,
    /// Whether it has no flexible array, which covers all remaining bytes of a record.
    pub is_fixed: bool,
    /// Whether members have formats.
    pub is_formatted: bool,
}

/// Builds BTF with up to a dozen types, and a `Type` from the last one; `None` if it exceeds a limit or is invalid.
pub fn a_type(input: &mut Unstructured<'_>) -> Result<Option<Made>> {
    let mut blob = Blob::new();
    let mut types = Types { made: Vec::new(), is_plain: true, has_names: true, is_fixed: true };
    for _ in 0..=input.int_in_range(0..=11)? {
        types.add(&mut blob, input)?;
    }
    let Ok(btf) = Btf::parse(&blob.bytes()) else { return Ok(None) };
    let formats: Vec<&str> = ValueFormat::names().split([',', ' ']).filter(|name| !name.is_empty()).collect();
    let mut told = Vec::new();
    for _ in 0..input.int_in_range(0..=3)? {
        told.push(["s", *input.choose(&NAMES)?, *input.choose(&formats)?]);
    }
    let formats = MemberFormats::new(&btf, &mut told.iter().copied(), &mut |_, _| ());
    let ty = formats.type_from_btf(&btf, btf.len() - 1).ok();
    Ok(ty.map(|ty| Made {
        ty,
        is_plain: types.is_plain,
        has_names: types.has_names,
        is_fixed: types.is_fixed,
        is_formatted: !told.is_empty(),
    }))
}

const NAMES: [&str; 8] = ["a", "b", "comm", "pid", "", "\"quoted\\", "long_name_of_a_member", "ä\u{1}"];

/// A name, a type, and an offset.
type Member<T> = (&'static str, u32, T);

/// The types so far: id, bytes, alignment.
struct Types {
    made: Vec<(u32, u32, u32)>,
    is_plain: bool,
    has_names: bool,
    is_fixed: bool,
}

impl Types {
    fn add(&mut self, blob: &mut Blob, input: &mut Unstructured<'_>) -> Result<()> {
        let name = *input.choose(&NAMES)?;
        let kind =
            if self.made.is_empty() { input.int_in_range(0..=3)? } else { input.int_in_range(0..=10)? };
        let made = match kind {
            0 => {
                let size = *input.choose(&[1, 2, 4, 8, 16])?;
                // A compiler sets at most one encoding. The encoding 2 is a character.
                (blob.int(name, size, *input.choose(&[0, SIGNED, BOOL, 2])?), size, size)
            }
            1 => {
                let size = *input.choose(&[4, 8, 16])?;
                (blob.float(name, size), size, size)
            }
            2 => {
                let size = *input.choose(&[1, 2, 4, 8])?;
                let constants: Vec<_> =
                    self.constants(input)?.iter().map(|(name, value)| (*name, *value as i32)).collect();
                (blob.enumeration(name, size, input.arbitrary()?, &constants), size, size)
            }
            3 => (blob.enumeration64(name, input.arbitrary()?, &self.constants(input)?), 8, 8),
            4 => (blob.ptr(self.any(input)?.0), 8, 8),
            5 | 6 => {
                let (id, size, align) = self.any(input)?;
                let count = input.int_in_range(0..=17)?;
                self.is_fixed &= count > 0;
                (blob.array(id, count), size.saturating_mul(count), align)
            }
            7 => {
                let (id, size, align) = self.any(input)?;
                // 9 and 11 are volatile and restrict.
                (blob.alias(*input.choose(&[TYPEDEF, CONST, TYPE_TAG, 9, 11])?, name, id), size, align)
            }
            8 => self.bit_fields(blob, input)?,
            _ => self.structure(blob, input)?,
        };
        self.made.push(made);
        Ok(())
    }

    fn any(&self, input: &mut Unstructured<'_>) -> Result<(u32, u32, u32)> {
        Ok(self.made[input.choose_index(self.made.len())?])
    }

    fn structure(&mut self, blob: &mut Blob, input: &mut Unstructured<'_>) -> Result<(u32, u32, u32)> {
        let (is_union, mut end, mut most) = (input.ratio(1, 4)?, 0u32, 1);
        self.is_plain &= !is_union;
        let mut members: Vec<Member<u32>> = Vec::new();
        for _ in 0..input.int_in_range(0..=6)? {
            let (id, size, align) = self.any(input)?;
            let offset = if is_union { 0 } else { end.next_multiple_of(align) };
            let odd = input.ratio(1, 32)?;
            self.is_plain &= !odd;
            let bit = if odd { input.arbitrary()? } else { offset.saturating_mul(8) };
            members.push((self.name(&members, input)?, id, bit));
            end = end.max(offset.saturating_add(size)).min(1 << 24);
            most = most.max(align);
        }
        let size = end.next_multiple_of(most);
        Ok((blob.structure(if is_union { UNION } else { STRUCT }, "s", size, &members), size, most))
    }

    fn constants(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<(&'static str, u64)>> {
        let mut constants: Vec<(&str, u64)> = Vec::new();
        for _ in 0..input.int_in_range(0..=3)? {
            let name = *input.choose(&NAMES)?;
            self.has_names &= !name.is_empty() && constants.iter().all(|(other, _)| *other != name);
            constants.push((name, input.arbitrary()?));
        }
        Ok(constants)
    }

    /// Returns a name for another member.
    fn name<T>(&mut self, others: &[Member<T>], input: &mut Unstructured<'_>) -> Result<&'static str> {
        let name = *input.choose(&NAMES)?;
        self.has_names &= !name.is_empty() && others.iter().all(|(other, ..)| *other != name);
        Ok(name)
    }

    fn bit_fields(&mut self, blob: &mut Blob, input: &mut Unstructured<'_>) -> Result<(u32, u32, u32)> {
        let mut int = |signed| blob.int("bits", 4, signed);
        let ints = [int(0), int(SIGNED)];
        let (mut bit, mut members): (u32, Vec<Member<(u32, u32)>>) = (0, Vec::new());
        for _ in 0..input.int_in_range(0..=6)? {
            let width: u32 = input.int_in_range(1..=31)?;
            // A bit-field does not cross two words.
            if bit % 32 + width > 32 {
                bit = bit.next_multiple_of(32);
            }
            members.push((self.name(&members, input)?, *input.choose(&ints)?, (bit, width)));
            bit += width;
        }
        let size = bit.div_ceil(32) * 4;
        Ok((blob.bit_fields("s", size, &members), size, 4))
    }
}

/// Returns the number of open descriptors of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc is mounted").count()
}

/// Returns a file compiled by run.sh, in the directory `FUZZ_PACKAGES` (target/fuzz/packages).
pub fn compiled(file: &str) -> Vec<u8> {
    let folder = std::env::var("FUZZ_PACKAGES").expect("run.sh sets it");
    std::fs::read(format!("{folder}/{file}")).expect("run.sh has compiled it")
}
