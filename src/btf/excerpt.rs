//! Of a kernel's BTF the few types that the CO-RE relocations of an object can ask for, as BTF of their own.
//!
//! libbpf reads, checks and indexes a hundred thousand types, and goes through all of them for each type that an object
//! names; in an excerpt it finds the same answers among a few dozen. What is picked follows its rules: candidates are types
//! of the same kind and, flavours aside, the same name; members are found by name, also in members without one. Rather more
//! is picked than less. On the same way through the kernel's types the hooks are found that programs attach to by id.

use super::reader::{Btf, BtfKind, HEADER_LEN, KINDS, SIZES, bad, cut_short, sections, string_at, word_at};
use super::relocation::{Ask, Relocation};
use crate::error::Result;

/// Some types of a kernel.
pub struct Excerpt {
    /// Them as raw BTF, with ids of their own. Kernels with the same types give the same bytes.
    pub btf: Vec<u8>,
    /// Whether libbpf finds the same in it as in the whole: every type was there (others may be a module's), and no
    /// instruction asks for an id.
    pub suffices: bool,
}

/// What programs of a section attach to by the id of a type of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The section.
    pub section: String,
    /// The name of a function or, as each tracepoint has one, of a typedef.
    pub name: String,
    /// Which of the two.
    pub is_typedef: bool,
    /// The kernel's own id of it; 0 if it is not there (others may be a module's).
    pub id: u32,
}

/// Where things are in a kernel's types, kept from one object to the next: what those have in common need not be looked for
/// again. Some 10 kB. It is of one kernel.
#[derive(Default)]
pub struct Index {
    /// Where every so many-th type begins.
    marks: Vec<u32>,
    /// What was looked for, and found.
    found: Vec<(BtfKind, Box<[u8]>, Vec<u32>)>,
}

impl Index {
    /// More than programs ask for; then it begins anew.
    const MOST: usize = 1000;

    /// One that knows nothing.
    pub const fn new() -> Index {
        Index { marks: Vec::new(), found: Vec::new() }
    }

    /// The types that a root may be, if they have been looked for.
    fn ids(&self, root: &Root<'_>) -> Option<&Vec<u32>> {
        let known = self.found.iter().find(|(kind, name, _)| *kind == root.kind && **name == *root.name);
        known.map(|(.., ids)| ids)
    }

    /// Answers from what is known; false if that does not suffice.
    fn answer(&self, roots: &mut [Root<'_>]) -> bool {
        roots.iter_mut().all(|root| {
            self.ids(root).is_some_and(|ids| {
                root.found.clone_from(ids);
                true
            })
        })
    }

    fn keep(&mut self, marks: Vec<u32>, roots: &[Root<'_>]) {
        if self.found.len() + roots.len() > Index::MOST {
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

/// How much of a type is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Kind, name and size.
    Head,
    /// Members that the object names, too.
    Members,
    /// The constants of an enum, too.
    Constants,
}

/// A type that the object asks for, and those of the kernel that it may be.
struct Root<'a> {
    name: &'a [u8],
    kind: BtfKind,
    found: Vec<u32>,
}

impl Btf {
    /// The types of a kernel (raw BTF) that `relocations` of the object with these types can ask for. Finds the ids of
    /// `hooks`, too. `index` is a new one or that of the same kernel.
    pub fn excerpt(
        &self,
        relocations: &[Relocation],
        hooks: &mut [Hook],
        kernel: &[u8],
        index: &mut Index,
    ) -> Result<Excerpt> {
        const MOST: usize = 10_000;
        if relocations.len() > MOST {
            return Err(bad(format_args!("more than {MOST} relocations")));
        }
        let asked = || relocations.iter().filter(|relocation| relocation.ask() != Ask::LocalId);
        let (mut roots, mut names) = (Vec::new(), Vec::new());
        for relocation in asked() {
            self.add_root(relocation.type_id, &mut roots);
            self.add_names(relocation, &mut names);
        }
        let asked_for = roots.len();
        for hook in hooks.iter() {
            let kind = if hook.is_typedef { BtfKind::Typedef } else { BtfKind::Func };
            roots.push(Root { name: hook.name.as_bytes(), kind, found: Vec::new() });
        }
        let kernel = Types::parse(kernel, &mut roots, index)?;
        let found: Vec<u32> = roots.drain(asked_for..).map(|root| kernel.id(&root)).collect();
        let all_members = asked().any(|relocation| relocation.ask() == Ask::Match);
        let (kept, ids) = (Vec::new(), Places::default());
        let mut picks = Picks { kernel, names, all_members, kept, ids, again: false };
        for id in roots.iter().flat_map(|root| &root.found) {
            picks.keep(*id, Depth::Constants);
        }
        let suffices = roots.iter().all(|root| !root.found.is_empty())
            && asked().all(|relocation| relocation.ask() != Ask::KernelId);
        hooks.iter_mut().zip(found).for_each(|(hook, found)| hook.id = found);
        Ok(Excerpt { btf: picks.write(), suffices })
    }

    fn add_root<'a>(&'a self, id: u32, roots: &mut Vec<Root<'a>>) {
        let (Some(name), Some(entry)) = (self.name(id), self.entry(id)) else { return };
        let (name, kind) = (essential(name.as_bytes()), entry.kind.plain());
        if !roots.iter().any(|root| root.name == name && root.kind == kind) {
            roots.push(Root { name, kind, found: Vec::new() });
        }
    }

    /// The names of the members on the way that a relocation goes. The first index counts structs behind a pointer.
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

/// What is kept of a kernel's types.
struct Picks<'a> {
    kernel: Types<'a>,
    /// Names of members that the object asks for.
    names: Vec<&'a [u8]>,
    /// Whether it compares whole types.
    all_members: bool,
    /// By their new ids, of which the first is 1.
    kept: Vec<(u32, Depth)>,
    ids: Places,
    /// Whether more was to be kept of a type than before.
    again: bool,
}

impl Picks<'_> {
    /// Keeps a type, and tells its new id. What is not to be kept is void.
    fn keep(&mut self, id: u32, depth: Depth) -> u32 {
        if id == 0 {
            return 0;
        }
        let new_id = self.ids.place(id, self.kept.len() as u32 + 1);
        match self.kept.get_mut(new_id as usize - 1) {
            None => self.kept.push((id, depth)),
            Some((_, kept)) if *kept >= depth => {}
            Some((_, kept)) => (*kept, self.again) = (depth, true),
        }
        new_id
    }

    /// Writes the kept types and all that they refer to.
    fn write(&mut self) -> Vec<u8> {
        loop {
            let (mut out, mut next) = (Writer::default(), 0);
            out.string(0, &[]);
            self.again = false;
            while let Some((id, depth)) = self.kept.get(next).copied() {
                self.write_type(&self.kernel.record(id), depth, &mut out);
                next += 1;
            }
            if !self.again {
                return out.finish();
            }
        }
    }

    fn write_type(&mut self, record: &Record<'_>, depth: Depth, out: &mut Writer) {
        let (start, kind, rest) = (out.types.len(), record.kind, record.rest);
        let each = usize::from(SIZES[kind as usize].1);
        let arg = word(record.head, 8);
        let arg = match kind {
            // What a member points to is asked for by nobody.
            BtfKind::Ptr if depth == Depth::Members && !self.all_members => 0,
            BtfKind::Ptr | BtfKind::FuncProto => self.keep(arg, Depth::Head),
            kind if kind.is_modifier() => self.keep(arg, depth),
            kind if kind.refers() => 0,
            _ => arg,
        };
        let name = self.string(record.head, out);
        out.words(&[name, word(record.head, 4), arg]);
        let mut count = 0u16;
        if kind == BtfKind::Array {
            let (element, index) = (word(rest, 0), word(rest, 4));
            let ids = [self.keep(element, depth.min(Depth::Members)), self.keep(index, Depth::Head)];
            out.words(&[ids[0], ids[1], word(rest, 8)]);
        } else if each == 0 {
            out.types.extend_from_slice(rest);
        }
        for part in rest.chunks_exact(each.max(1)).filter(|_| each > 0) {
            let inner = match kind {
                BtfKind::Struct | BtfKind::Union if self.is_kept(part, depth) => Some(Depth::Members),
                BtfKind::FuncProto => Some(Depth::Head),
                BtfKind::Enum | BtfKind::Enum64 if depth == Depth::Constants || self.all_members => None,
                _ => continue,
            };
            let second = inner.map_or(word(part, 4), |depth| self.keep(word(part, 4), depth));
            let name = self.string(part, out);
            out.words(&[name, second]);
            out.types.extend_from_slice(&part[8..]);
            count += 1;
        }
        out.types[start + 4..start + 6].copy_from_slice(&count.to_le_bytes());
    }

    /// Whether a member is kept of what holds it. One without a name is there for what it has inside.
    fn is_kept(&self, member: &[u8], depth: Depth) -> bool {
        depth >= Depth::Members && (self.all_members || self.leads_to_asked(member, MOST_LEVELS))
    }

    fn leads_to_asked(&self, member: &[u8], levels: u32) -> bool {
        let name = self.kernel.string(word(member, 0));
        if !name.is_empty() || levels == 0 {
            return self.names.contains(&name);
        }
        let inner = self.kernel.record(word(member, 4));
        let is_composite = matches!(inner.kind, BtfKind::Struct | BtfKind::Union);
        is_composite && inner.rest.chunks_exact(12).any(|member| self.leads_to_asked(member, levels - 1))
    }

    /// The new place of the string that `named` begins with the place of.
    fn string(&self, named: &[u8], out: &mut Writer) -> u32 {
        let place = word(named, 0);
        out.string(place, self.kernel.string(place))
    }
}

/// BTF in the making.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    places: Places,
}

impl Writer {
    fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.types.extend_from_slice(&word.to_le_bytes()));
    }

    fn string(&mut self, old: u32, text: &[u8]) -> u32 {
        let end = self.strings.len() as u32;
        let place = self.places.place(old, end);
        if place == end {
            self.strings.extend_from_slice(text);
            self.strings.push(0);
        }
        place
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

/// New places of what had other ones, in the order of those.
#[derive(Default)]
struct Places(Vec<(u32, u32)>);

impl Places {
    /// The new place of `old`, which is `next` if it has none yet.
    fn place(&mut self, old: u32, next: u32) -> u32 {
        match self.0.binary_search_by_key(&old, |known| known.0) {
            Ok(known) => self.0[known].1,
            Err(at) => {
                self.0.insert(at, (old, next));
                next
            }
        }
    }
}

/// A kernel's types as they lie in its BTF, with as little work as possible.
struct Types<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Where every so many-th type begins.
    marks: &'a [u32],
}

/// One of them.
struct Record<'a> {
    kind: BtfKind,
    head: &'a [u8],
    rest: &'a [u8],
}

/// Of members without names inside each other; no kernel comes near.
const MOST_LEVELS: u32 = 16;
const HEAD: usize = 12;
const STEP: u32 = 64;

impl<'a> Types<'a> {
    /// Finds the candidates for each root.
    fn parse(data: &'a [u8], roots: &mut [Root<'_>], index: &'a mut Index) -> Result<Types<'a>> {
        let (bytes, strings) = sections(data)?;
        let mut types = Types { bytes, strings, marks: &[] };
        if index.marks.is_empty() || !index.answer(roots) {
            roots.iter_mut().for_each(|root| root.found.clear());
            let marks = types.search(roots)?;
            index.keep(marks, roots);
        }
        types.marks = &index.marks;
        Ok(types)
    }

    /// Goes through all types once; returns the marks.
    #[cfg_attr(small, optimize(speed))]
    fn search(&self, roots: &mut [Root<'_>]) -> Result<Vec<u32>> {
        let bits = |root: &Root| match root.kind {
            BtfKind::Enum => 1 << BtfKind::Enum as u32 | 1 << BtfKind::Enum64 as u32,
            kind => 1 << kind as u32,
        };
        let wanted = roots.iter().fold(0u32, |kinds, root| kinds | bits(root));
        let (bytes, mut marks) = (self.bytes, Vec::new());
        let (mut at, mut id) = (0, 1);
        while at < bytes.len() {
            if id % STEP == 1 {
                marks.push(at as u32);
            }
            let (kind, len) = measure(bytes, at).ok_or_else(|| cut_short(id))?;
            if wanted >> kind & 1 == 1 {
                self.compare(at, KINDS[kind].plain(), id, roots);
            }
            at += len;
            id += 1;
        }
        if at == bytes.len() { Ok(marks) } else { Err(cut_short(id - 1)) }
    }

    fn compare(&self, at: usize, kind: BtfKind, id: u32, roots: &mut [Root<'_>]) {
        let name = self.strings.get(word(self.bytes, at) as usize..).unwrap_or_default();
        for root in roots {
            let is_like = root.name.first() == name.first() && root.kind == kind;
            if is_like && name.starts_with(root.name) {
                let whole = string_at(name, 0).unwrap_or_default();
                if essential(whole) == root.name {
                    root.found.push(id);
                }
            }
        }
    }

    /// The type of that id; an empty one if there is none.
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

    /// The first of those found whose name is the root's to the letter; 0 if there is none.
    fn id(&self, root: &Root<'_>) -> u32 {
        let is_it = |id: &u32| self.string(word(self.record(*id).head, 0)) == root.name;
        root.found.iter().copied().find(is_it).unwrap_or(0)
    }
}

/// The number of the kind, and the length of a record. Of all that is done to load an object, this is done most often.
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

/// The name without what tells versions of a type apart: `task_struct___old` is `task_struct`.
fn essential(name: &[u8]) -> &[u8] {
    let separator = |part: &[u8]| part[0] != b'_' && &part[1..4] == b"___" && part[4] != b'_';
    name.windows(5).rposition(separator).map_or(name, |at| &name[..=at])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    word_at(bytes, at).unwrap_or(0)
}
