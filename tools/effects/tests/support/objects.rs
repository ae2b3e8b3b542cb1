//! Objects: compiled by clang, changed, and analysed without the kernel.

use std::collections::BTreeMap;
use std::process::Command;

use eunomia::{Error, Options, Vm};
use eunomia_effects::{Code, Findings, Object, Program};

const PRELUDE: &str = r#"
typedef unsigned char u8; typedef unsigned int u32; typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#define core __attribute__((preserve_access_index))
#define ksym __attribute__((section(".ksyms")))
#define noinline __attribute__((noinline))
char LICENSE[] SEC("license") = "GPL";
static long (*const bpf_send_signal)(u32) = (void *)109;
static long (*const bpf_loop)(u32, void *, void *, u64) = (void *)181;
static void *(*const bpf_map_lookup_elem)(void *, const void *) = (void *)1;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
"#;

/// Compiles C source text, which begins with what the tests share.
pub fn compile(source: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, object) = (folder.path().join("test.bpf.c"), folder.path().join("test.o"));
    std::fs::write(&file, format!("{PRELUDE}{source}")).expect("the source is written");
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-g", "-mcpu=v3", "-target", "bpf", "-c"]).arg(&file).arg("-o").arg(&object);
    let made = clang.output().expect("clang runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(object).expect("the object is there")
}

/// The code of the programs of an object, without the kernel.
pub fn codes(object: &[u8]) -> Result<BTreeMap<String, (Program, Code)>, Error> {
    let vm = Vm::new(Options::new())?;
    vm.open_object(object, None)?;
    let (mut object, mut codes) = (Object::new(object), BTreeMap::new());
    for index in 0..vm.prog_count()? {
        let (info, own) = (vm.prog_at(index)?, vm.prog_code_at(index)?);
        let name = info.name.to_string_lossy().into_owned();
        let code = object.code(&name, &own.instructions);
        codes.insert(name, (Program { kind: info.kind, attach_type: own.attach_type }, code));
    }
    Ok(codes)
}

/// What the programs of an object could do.
pub fn judged(object: &[u8]) -> BTreeMap<String, Findings> {
    let vm = Vm::new(Options::new()).expect("a vm");
    vm.open_object(object, None).expect("the object opens");
    let mut pins = BTreeMap::new();
    for index in 0..vm.map_count().expect("maps") {
        let name = vm.map_at(index).expect("a map").name.to_string_lossy().into_owned();
        pins.extend(
            vm.map_pin_path_at(index).expect("a map").map(|path| (name, path.to_string_lossy().into_owned())),
        );
    }
    let codes = codes(object).expect("the object opens");
    let judge = |(program, code)| Findings::of(&code, &program, &|map| pins.get(map).cloned());
    codes.into_iter().map(|(name, code)| (name, judge(code))).collect()
}

/// The effects of one program, as text.
pub fn effects(object: &[u8], program: &str) -> String {
    let found = judged(object);
    let found = found.get(program).unwrap_or_else(|| panic!("no program {program}: {:?}", found.keys()));
    found.effects.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// An ELF object that is changed.
pub struct Elf(pub Vec<u8>);

/// Offsets in a section header.
const KIND: usize = 4;
const OFFSET: usize = 24;
const SIZE: usize = 32;
const LINK: usize = 40;

impl Elf {
    fn word(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn long(&self, at: usize) -> usize {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().expect("eight bytes")) as usize
    }

    fn half(&self, at: usize) -> usize {
        u16::from_ne_bytes(self.0[at..at + 2].try_into().expect("two bytes")).into()
    }

    fn header(&self, section: usize) -> usize {
        self.long(40) + 64 * section
    }

    fn string(&self, section: usize, at: u32) -> &str {
        let rest = &self.0[self.long(self.header(section) + OFFSET) + at as usize..];
        let end = rest.iter().position(|byte| *byte == 0).expect("strings end");
        std::str::from_utf8(&rest[..end]).expect("UTF-8")
    }

    /// The number of a section.
    pub fn section(&self, name: &str) -> usize {
        let names = self.half(62);
        let found = (0..self.half(60)).find(|it| self.string(names, self.word(self.header(*it))) == name);
        found.unwrap_or_else(|| panic!("no section {name}"))
    }

    fn symbols(&self) -> usize {
        (0..self.half(60)).find(|it| self.word(self.header(*it) + KIND) == 2).expect("symbols")
    }

    /// The number of a symbol, and where it is in the file.
    pub fn symbol(&self, name: &str) -> (u32, usize) {
        let table = self.header(self.symbols());
        let (at, count, strings) =
            (self.long(table + OFFSET), self.long(table + SIZE) / 24, self.word(table + LINK));
        let places = (0..count).map(|index| (index as u32, at + 24 * index));
        let mut found = places.filter(|(_, at)| self.string(strings as usize, self.word(*at)) == name);
        found.next().unwrap_or_else(|| panic!("no symbol {name}"))
    }

    /// The offset and the length of the contents of a section in the file.
    pub fn contents(&self, section: usize) -> (usize, usize) {
        (self.long(self.header(section) + OFFSET), self.long(self.header(section) + SIZE))
    }

    /// Symbols, relocations and code: the kind of the section, where its contents are, and how long they are.
    pub fn tables(&self) -> Vec<(u32, usize, usize)> {
        let sections = (0..self.half(60)).map(|section| self.header(section));
        let is_table =
            |header: &usize| matches!(self.word(*header + KIND), 2 | 9) || self.word(*header + 8) & 4 != 0;
        let table = |header| (self.word(header + KIND), self.long(header + OFFSET), self.long(header + SIZE));
        sections.filter(is_table).map(table).collect()
    }

    /// Renames a section to the name of another one.
    pub fn rename(&mut self, section: usize, like: usize) {
        let (from, to) = (self.header(like), self.header(section));
        self.0.copy_within(from..from + 4, to);
    }

    pub fn set_long(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    /// Adds a section of relocations: of kind 9 (REL) or, with addends, 4 (RELA).
    pub fn add_relocations(&mut self, kind: u32, section: usize, relocations: &[(u64, u32)]) {
        let (table, count) = (self.long(40), self.half(60));
        let mut contents = Vec::new();
        for (at, symbol) in relocations {
            contents.extend(at.to_ne_bytes());
            contents.extend((u64::from(*symbol) << 32 | 10).to_ne_bytes());
            contents.extend(&[0; 8][..if kind == 4 { 8 } else { 0 }]);
        }
        let headers = self.0[table..table + 64 * count].to_vec();
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = self.0.len() as u64;
        let entry = if kind == 4 { 24u64 } else { 16 };
        let (size, link) = (contents.len() as u64, self.symbols() as u32);
        self.0.extend(contents);
        let moved = self.0.len() as u64;
        self.0.extend(headers);
        self.0.extend([0u32.to_ne_bytes(), kind.to_ne_bytes()].concat());
        self.0.extend([0, 0, at, size].map(u64::to_ne_bytes).concat());
        self.0.extend([link.to_ne_bytes(), (section as u32).to_ne_bytes()].concat());
        self.0.extend([8, entry].map(u64::to_ne_bytes).concat());
        self.set_long(40, moved);
        self.0[60..62].copy_from_slice(&(count as u16 + 1).to_ne_bytes());
    }

    /// Writes `new`, as long, over each `old`.
    pub fn replace(&mut self, old: &[u8], new: &[u8]) {
        assert_eq!(old.len(), new.len());
        let places: Vec<usize> =
            (0..self.0.len() - old.len()).filter(|at| self.0[*at..].starts_with(old)).collect();
        assert!(!places.is_empty(), "{old:?} is there");
        for at in places {
            self.0[at..at + new.len()].copy_from_slice(new);
        }
    }
}
