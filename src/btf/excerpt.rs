//! Extracts from a kernel's BTF the types to which the CO-RE relocations of an object can refer, and writes them as a
//! separate BTF.
//!
//! libbpf reads, checks and indexes a hundred thousand types of the kernel, and searches all of them for each type that an
//! object names. In an excerpt of a few dozen types it finds the same ones. The selection follows libbpf's rules: a
//! candidate is a type of the same kind with the same name, without the flavor; members are found by name, also inside
//! members without a name. If in doubt, the excerpt includes the type. The same scan finds the BTF ids of hooks.

use super::reader::{Btf, BtfKind, HEADER_LEN, KINDS, SIZES, bad, sections, string_at, truncated, word_at};
use super::relocation::{Query, Relocation};
use crate::error::Result;

/// A selection of a kernel's types.
pub struct Excerpt {
    /// The types as raw BTF, with new ids. Kernels with the same types give the same bytes.
    pub btf: Vec<u8>,
    /// Whether libbpf gives the same result with the excerpt as with all types. It does if every type was found (a
    /// missing one may belong to a module) and no instruction needs the id of a type.
    pub is_sufficient: bool,
}

/// A hook to which the programs of a section attach by a BTF id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The section.
    pub section: String,
    /// The name of a function or, for a tracepoint, of its typedef.
    pub name: String,
    /// Whether it is the name of a typedef.
    pub is_typedef: bool,
    /// Its id in the kernel's BTF; 0 if it was not found (it may belong to a module).
    pub id: u32,
}

/// A cache of positions in the types of one kernel. It is kept between objects, so that a type that several objects use
/// is searched for only once. It takes about 10 kB.
#[derive(Default)]
pub struct Index {
    /// The offset of every [`STEP`]th type.
    marks: Vec<u32>,
    /// The kind and name of each root that was searched for, and the ids found.
    found: Vec<(BtfKind, Box<[u8]>, Vec<u32>)>,
}

impl Index {
    /// Maximum number of roots, more than programs use. A full cache is cleared.
    const CAPACITY: usize = 1000;

    /// Creates an empty cache.
    pub const fn new() -> Index {
        Index { marks: Vec::new(), found: Vec::new() }
    }

    /// Returns the candidates for a root, if they have been searched for.
    fn ids(&self, root: &Root<'_>) -> Option<&Vec<u32>> {
        let known = self.found.iter().find(|(kind, name, _)| *kind == root.kind && **name == *root.name);
        known.map(|(.., ids)| ids)
    }

    /// Sets the candidates of all roots from the cache; returns false if a root is not in it.
    fn fill(&self, roots: &mut [Root<'_>]) -> bool {
        roots.iter_mut().all(|root| {
            self.ids(root).is_some_and(|ids| {
                root.found.clone_from(ids);
                true
            })
        })
    }

    fn store(&mut self, marks: Vec<u32>, roots: &[Root<'_>]) {
        if self.found.len() + roots.len() > Index::CAPACITY {
            self.found.clear();
        }
        self.marks = marks;
        for root in roots {
            if self.ids(root).is_none() {
                self.found.push((root.kind, root.name.into(), root.found.clone()));
            }
        }
    }
}

/// The part of a type that the excerpt contains.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Kind, name and size.
    Head,
    /// Also the members that the object names.
    Members,
    /// Also the constants of an enum.
    Constants,
}

/// A type that the object names, and its candidates in the kernel.
struct Root<'a> {
    name: &'a [u8],
    kind: BtfKind,
    found: Vec<u32>,
}

impl Btf {
    /// Extracts from `kernel` (raw BTF) the types to which `relocations` of the object with these types can refer. Also sets
    /// the ids of `hooks`. `index` must be new, or have been used for the same kernel.
    pub fn excerpt(
        &self,
        relocations: &[Relocation],
        hooks: &mut [Hook],
        kernel: &[u8],
        index: &mut Index,
    ) -> Result<Excerpt> {
        const MAX_RELOCATIONS: usize = 10_000;
        if relocations.len() > MAX_RELOCATIONS {
            return Err(bad(format_args!("more than {MAX_RELOCATIONS} relocations")));
        }
        let kernel_relocations =
            || relocations.iter().filter(|relocation| relocation.query() != Query::LocalId);
        let (mut roots, mut names) = (Vec::new(), Vec::new());
        for relocation in kernel_relocations() {
            self.add_root(relocation.type_id, &mut roots);
            self.add_names(relocation, &mut names);
        }
        let type_count = roots.len();
        for hook in hooks.iter() {
            let kind = if hook.is_typedef { BtfKind::Typedef } else { BtfKind::Func };
            roots.push(Root { name: hook.name.as_bytes(), kind, found: Vec::new() });
        }
        let kernel = KernelTypes::parse(kernel, &mut roots, index)?;
        let found: Vec<u32> = roots.drain(type_count..).map(|root| kernel.id(&root)).collect();
        let all_members = kernel_relocations().any(|relocation| relocation.query() == Query::Match);
        let (types, ids) = (Vec::new(), NewPositions::default());
        let mut selection = Selection { kernel, names, all_members, types, ids, has_grown: false };
        for id in roots.iter().flat_map(|root| &root.found) {
            selection.add(*id, Depth::Constants);
        }
        let is_sufficient = roots.iter().all(|root| !root.found.is_empty())
            && kernel_relocations().all(|relocation| relocation.query() != Query::KernelId);
        hooks.iter_mut().zip(found).for_each(|(hook, found)| hook.id = found);
        Ok(Excerpt { btf: selection.write(), is_sufficient })
    }

    fn add_root<'a>(&'a self, id: u32, roots: &mut Vec<Root<'a>>) {
        let (Some(name), Some(entry)) = (self.name(id), self.entry(id)) else { return };
        let (name, kind) = (without_flavor(name.as_bytes()), entry.kind.without_width());
        if !roots.iter().any(|root| root.name == name && root.kind == kind) {
            roots.push(Root { name, kind, found: Vec::new() });
        }
    }

    /// Adds the names of the members in the access string of a relocation. The first index is skipped, because it is
    /// pointer arithmetic.
    fn add_names<'a>(&'a self, relocation: &Relocation, names: &mut Vec<&'a [u8]>) {
        let mut id = relocation.type_id;
        for index in self.string(relocation.access).unwrap_or("").split(':').skip(1) {
            let Some(entry) = self.strip(id).and_then(|id| self.entry(id)) else { return };
            let is_array = entry.kind == BtfKind::Array;
            let index = if is_array { Some(0) } else { index.parse().ok() };
            let Some(part) = index.and_then(|index: usize| self.parts(entry).get(index)) else { return };
            let name = self.part_name(part).as_bytes();
            if !is_array && !names.contains(&name) {
                names.push(name);
            }
            id = part.ty;
        }
    }
}

/// The types that the excerpt will contain.
struct Selection<'a> {
    kernel: KernelTypes<'a>,
    /// The names of members that the object uses.
    names: Vec<&'a [u8]>,
    /// Whether the object compares whole types.
    all_members: bool,
    /// The kernel's id of each type of the excerpt, in the order of the new ids. New ids start at 1.
    types: Vec<(u32, Depth)>,
    ids: NewPositions,
    /// Whether a type that was already written needs a greater depth.
    has_grown: bool,
}

impl Selection<'_> {
    /// Adds a type and returns its new id.
    fn add(&mut self, id: u32, depth: Depth) -> u32 {
        if id == 0 {
            return 0;
        }
        let new_id = self.ids.assign(id, self.types.len() as u32 + 1);
        match self.types.get_mut(new_id as usize - 1) {
            None => self.types.push((id, depth)),
            Some((_, known)) if *known >= depth => {}
            Some((_, known)) => (*known, self.has_grown) = (depth, true),
        }
        new_id
    }

    /// Writes the types and all types to which they refer.
    fn write(&mut self) -> Vec<u8> {
        loop {
            let (mut out, mut next) = (Writer::default(), 0);
            out.string(0, &[]);
            self.has_grown = false;
            while let Some((id, depth)) = self.types.get(next).copied() {
                self.write_type(&self.kernel.record(id), depth, &mut out);
                next += 1;
            }
            if !self.has_grown {
                return out.finish();
            }
        }
    }

    fn write_type(&mut self, record: &Record<'_>, depth: Depth, out: &mut Writer) {
        let (start, kind, rest) = (out.types.len(), record.kind, record.rest);
        let each = usize::from(SIZES[kind as usize].1);
        let arg = word(record.head, 8);
        let arg = match kind {
            // Relocations do not follow pointers in members.
            BtfKind::Ptr if depth == Depth::Members && !self.all_members => 0,
            BtfKind::Ptr | BtfKind::FuncProto => self.add(arg, Depth::Head),
            kind if kind.is_modifier() => self.add(arg, depth),
            kind if kind.refers_to_type() => 0,
            _ => arg,
        };
        let name = self.string(record.head, out);
        out.words(&[name, word(record.head, 4), arg]);
        let mut count = 0u16;
        if kind == BtfKind::Array {
            let (element, index) = (word(rest, 0), word(rest, 4));
            let ids = [self.add(element, depth.min(Depth::Members)), self.add(index, Depth::Head)];
            out.words(&[ids[0], ids[1], word(rest, 8)]);
        } else if each == 0 {
            out.types.extend_from_slice(rest);
        }
        for part in rest.chunks_exact(each.max(1)).filter(|_| each > 0) {
            let inner = match kind {
                BtfKind::Struct | BtfKind::Union if self.is_included(part, depth) => Some(Depth::Members),
                BtfKind::FuncProto => Some(Depth::Head),
                BtfKind::Enum | BtfKind::Enum64 if depth == Depth::Constants || self.all_members => None,
                _ => continue,
            };
            let second = inner.map_or(word(part, 4), |depth| self.add(word(part, 4), depth));
            let name = self.string(part, out);
            out.words(&[name, second]);
            out.types.extend_from_slice(&part[8..]);
            count += 1;
        }
        out.types[start + 4..start + 6].copy_from_slice(&count.to_le_bytes());
    }

    /// Whether a member is part of the excerpt. A member without a name is needed if a member inside it is.
    fn is_included(&self, member: &[u8], depth: Depth) -> bool {
        depth >= Depth::Members && (self.all_members || self.contains_used(member, MAX_LEVELS))
    }

    fn contains_used(&self, member: &[u8], levels: u32) -> bool {
        let name = self.kernel.string(word(member, 0));
        if !name.is_empty() || levels == 0 {
            return self.names.contains(&name);
        }
        let inner = self.kernel.record(word(member, 4));
        let is_composite = matches!(inner.kind, BtfKind::Struct | BtfKind::Union);
        is_composite && inner.rest.chunks_exact(12).any(|member| self.contains_used(member, levels - 1))
    }

    /// Copies the string whose offset is the first word of `entry`; returns its new offset.
    fn string(&self, entry: &[u8], out: &mut Writer) -> u32 {
        let offset = word(entry, 0);
        out.string(offset, self.kernel.string(offset))
    }
}

/// Writes BTF.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    offsets: NewPositions,
}

impl Writer {
    fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.types.extend_from_slice(&word.to_le_bytes()));
    }

    fn string(&mut self, old: u32, text: &[u8]) -> u32 {
        let end = self.strings.len() as u32;
        let offset = self.offsets.assign(old, end);
        if offset == end {
            self.strings.extend_from_slice(text);
            self.strings.push(0);
        }
        offset
    }

    fn finish(mut self) -> Vec<u8> {
        let types = std::mem::take(&mut self.types);
        let (len, strings) = (types.len() as u32, self.strings.len() as u32);
        self.words(&[0x0001_eb9f, HEADER_LEN as u32, 0, len, len, strings]);
        self.types.extend_from_slice(&types);
        self.types.extend_from_slice(&self.strings);
        self.types
    }
}

/// New ids or offsets by the old ones, sorted by the old ones.
#[derive(Default)]
struct NewPositions(Vec<(u32, u32)>);

impl NewPositions {
    /// Returns the new position of `old`. If it has none, it gets `next`.
    fn assign(&mut self, old: u32, next: u32) -> u32 {
        match self.0.binary_search_by_key(&old, |known| known.0) {
            Ok(known) => self.0[known].1,
            Err(at) => {
                self.0.insert(at, (old, next));
                next
            }
        }
    }
}

/// A reader of the kernel's types that does as little work as possible.
struct KernelTypes<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// The offset of every [`STEP`]th type.
    marks: &'a [u32],
}

/// The bytes of one type: the first three words, and the rest.
struct Record<'a> {
    kind: BtfKind,
    head: &'a [u8],
    rest: &'a [u8],
}

/// Maximum number of levels of nested members without names, far more than any kernel has.
const MAX_LEVELS: u32 = 16;
const HEAD: usize = 12;
const STEP: u32 = 64;

impl<'a> KernelTypes<'a> {
    /// Reads the header and finds the candidates for each root.
    fn parse(data: &'a [u8], roots: &mut [Root<'_>], index: &'a mut Index) -> Result<KernelTypes<'a>> {
        let (bytes, strings) = sections(data)?;
        let mut types = KernelTypes { bytes, strings, marks: &[] };
        if index.marks.is_empty() || !index.fill(roots) {
            roots.iter_mut().for_each(|root| root.found.clear());
            let marks = types.search(roots)?;
            index.store(marks, roots);
        }
        types.marks = &index.marks;
        Ok(types)
    }

    /// Searches all types once; returns the marks.
    #[cfg_attr(small, optimize(speed))]
    fn search(&self, roots: &mut [Root<'_>]) -> Result<Vec<u32>> {
        let bits = |root: &Root| match root.kind {
            BtfKind::Enum => 1 << BtfKind::Enum as u32 | 1 << BtfKind::Enum64 as u32,
            kind => 1 << kind as u32,
        };
        let kinds = roots.iter().fold(0u32, |kinds, root| kinds | bits(root));
        let (bytes, mut marks) = (self.bytes, Vec::new());
        let (mut at, mut id) = (0, 1);
        while at < bytes.len() {
            if id % STEP == 1 {
                marks.push(at as u32);
            }
            let (kind, len) = measure(bytes, at).ok_or_else(|| truncated(id))?;
            if kinds >> kind & 1 == 1 {
                self.compare(at, KINDS[kind].without_width(), id, roots);
            }
            at += len;
            id += 1;
        }
        if at == bytes.len() { Ok(marks) } else { Err(truncated(id - 1)) }
    }

    fn compare(&self, at: usize, kind: BtfKind, id: u32, roots: &mut [Root<'_>]) {
        let name = self.strings.get(word(self.bytes, at) as usize..).unwrap_or_default();
        for root in roots {
            let is_like = root.name.first() == name.first() && root.kind == kind;
            if is_like && name.starts_with(root.name) {
                let whole = string_at(name, 0).unwrap_or_default();
                if without_flavor(whole) == root.name {
                    root.found.push(id);
                }
            }
        }
    }

    /// Returns the type with that id, or an empty one if there is none.
    fn record(&self, id: u32) -> Record<'a> {
        let index = id.wrapping_sub(1);
        let mut record = self
            .marks
            .get((index / STEP) as usize)
            .and_then(|at| Some((*at as usize, record_at(self.bytes, *at as usize)?)));
        for _ in 0..index % STEP {
            record = record.and_then(|(at, record)| {
                let at = at + HEAD + record.rest.len();
                Some((at, record_at(self.bytes, at)?))
            });
        }
        record.map_or(Record { kind: BtfKind::Void, head: &[0; HEAD], rest: &[] }, |(_, record)| record)
    }

    fn string(&self, offset: u32) -> &'a [u8] {
        string_at(self.strings, offset).unwrap_or_default()
    }

    /// Returns the first candidate with exactly the name of the root; 0 if there is none.
    fn id(&self, root: &Root<'_>) -> u32 {
        let is_exact = |id: &u32| self.string(word(self.record(*id).head, 0)) == root.name;
        root.found.iter().copied().find(is_exact).unwrap_or(0)
    }
}

/// Returns the number of the kind, and the length of a record. The hottest function of loading an object.
#[inline(always)]
fn measure(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let info = u32::from_le_bytes(bytes.get(at + 4..at + 8)?.try_into().ok()?);
    let kind = (info >> 24 & 0x1f) as usize;
    let (fixed, each) = SIZES[kind];
    (fixed > 0).then_some((kind, usize::from(fixed) + usize::from(each) * (info & 0xffff) as usize))
}

#[inline(never)]
fn record_at(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let (number, len) = measure(bytes, at)?;
    let (head, rest) = bytes.get(at..at + len)?.split_at(HEAD);
    Some(Record { kind: KINDS[number], head, rest })
}

/// Returns a name without its flavor: `task_struct` for `task_struct___old`.
fn without_flavor(name: &[u8]) -> &[u8] {
    let separator = |part: &[u8]| part[0] != b'_' && &part[1..4] == b"___" && part[4] != b'_';
    name.windows(5).rposition(separator).map_or(name, |at| &name[..=at])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    word_at(bytes, at).unwrap_or(0)
}
