//! BTF of the types that were picked.

use std::collections::HashMap;

use super::pick::{Picked, Picks};
use super::types::{Types, is_composite};
use crate::btf::{self, Btf, KIND_FLAG, word};

/// The BTF of these types alone, with ids of its own; whatever else they refer to is void.
pub fn write(kernel: &Types, picks: &Picks) -> Vec<u8> {
    let mut strings = Strings { bytes: vec![0], places: HashMap::from([(Vec::new(), 0)]) };
    let ids: HashMap<u32, u32> = picks.order.iter().zip(1..).map(|(id, new)| (*id, new)).collect();
    let new_id = |id: u32| {
        let known = ids.get(&id).or_else(|| ids.get(&kernel.resolve(id)));
        known.copied().unwrap_or(0)
    };
    let mut types = Vec::new();
    for id in &picks.order {
        types.extend(record(kernel, *id, &picks.by_id[id], &new_id, &mut strings));
    }
    Btf::section(&types, &strings.bytes)
}

fn record(
    kernel: &Types,
    id: u32,
    picked: &Picked,
    new_id: &dyn Fn(u32) -> u32,
    strings: &mut Strings,
) -> Vec<u8> {
    let (kind, arg, mut extra) = (kernel.kind(id), kernel.arg(id), kernel.words(id));
    let info = word(kernel.record(id), 4).unwrap_or(0);
    let (mut count, mut new_arg) = ((info & 0xffff) as usize, arg);
    match kind {
        kind if is_composite(kind) => {
            let members = kernel.members(id);
            let kept: Vec<_> = picked.members.iter().filter_map(|index| members.get(*index)).collect();
            count = kept.len();
            extra = kept.iter().flat_map(|m| [strings.place(m.name), new_id(m.id), m.offset]).collect();
        }
        btf::ENUM | btf::ENUM64 if !picked.whole => (count, extra) = (0, Vec::new()),
        btf::ENUM | btf::ENUM64 => {
            let step = if kind == btf::ENUM { 2 } else { 3 };
            extra.chunks_exact_mut(step).for_each(|value| value[0] = strings.place(kernel.string(value[0])));
        }
        btf::ARRAY => extra[..2].iter_mut().for_each(|id| *id = new_id(*id)),
        btf::FUNC_PROTO => {
            new_arg = new_id(arg);
            for param in extra.chunks_exact_mut(2) {
                param[0] = strings.place(kernel.string(param[0]));
                param[1] = new_id(param[1]);
            }
        }
        btf::PTR if !picked.whole => new_arg = 0,
        btf::INT | btf::FLOAT | btf::FWD => {}
        _ => new_arg = new_id(arg),
    }
    let name = strings.place(kernel.name(id));
    let mut record = btf::record(name, kind, count, new_arg, &extra);
    if info & KIND_FLAG != 0 {
        record[4..8].copy_from_slice(&(KIND_FLAG | kind << 24 | count as u32).to_ne_bytes());
    }
    record
}

/// The strings of a section, each once.
struct Strings {
    bytes: Vec<u8>,
    places: HashMap<Vec<u8>, u32>,
}

impl Strings {
    fn place(&mut self, text: &[u8]) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        self.places.insert(text.to_vec(), place);
        place
    }
}
