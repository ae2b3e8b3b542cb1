//! Objects with maps of hostile types, sizes, flags and numbers, loaded by a process in a memory cgroup. Each is loaded, or
//! refused with its subject. None takes more memory than computed, and nothing stays in the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use eunomia::error::{Hint, Subject};
use eunomia::{Error, Options, Status, Vm};

use crate::needs_root;
use crate::support::cgroup::MemoryCgroup;
use crate::support::{child, kernel::Watch};

/// The limit on the kernel memory of a package.
const BUDGET: u64 = 96 << 20;
/// The memory limit of the process, which includes the kernel memory for it.
const LIMIT: u64 = BUDGET + (160 << 20);
/// Number of objects.
const ROUNDS: u32 = 1500;
/// Much longer than the kernel needs to free maps.
const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers of a definition, in the order of `FIELDS`.
type Numbers = [u32; 5];
const FIELDS: [&str; 5] = ["type", "key_size", "value_size", "max_entries", "map_flags"];

/// The placeholder for a field of a map, which is searched for in the BTF of the template.
fn placeholder(map: usize, field: usize) -> u32 {
    0x5a3c_9000 + (map * 8 + field) as u32
}

/// An object with that many maps, which no program uses.
fn template(maps: usize, folder: &Path) -> Vec<u8> {
    let mut source = String::from(
        "#define SEC(name) __attribute__((section(name), used))\n\
         char LICENSE[] SEC(\"license\") = \"GPL\";\n\
         SEC(\"socket\") int nothing(void *ctx) { return 0; }\n",
    );
    for map in 0..maps {
        let member = |(field, name): (usize, &&str)| format!("int (*{name})[{}];", placeholder(map, field));
        let members: String = FIELDS.iter().enumerate().map(member).collect();
        source += &format!("struct {{ {members} }} map_{map} SEC(\".maps\");\n");
    }
    let (file, object) = (folder.join("maps.c"), folder.join("maps.o"));
    fs::write(&file, source).unwrap();
    let clang = ["-O2", "-g", "-target", "bpf", "-c", "-o"];
    let made = Command::new("clang").args(clang).args([&object, &file]).output().expect("clang runs");
    assert!(made.status.success(), "clang: {}", String::from_utf8_lossy(&made.stderr));
    fs::read(object).unwrap()
}

/// The offsets of the placeholders of a template, in BTF and in the debug information.
type Places = [Vec<usize>; 5];

fn places(object: &[u8], maps: usize) -> Vec<Places> {
    let mut found: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, bytes) in object.windows(4).enumerate() {
        found.entry(u32::from_le_bytes(bytes.try_into().unwrap())).or_default().push(at);
    }
    let mut place = |map, field| found.remove(&placeholder(map, field)).expect("clang keeps the numbers");
    (0..maps).map(|map| std::array::from_fn(|field| place(map, field))).collect()
}

/// Numbers that repeat from run to run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    fn of(&mut self, numbers: &[u32]) -> u32 {
        numbers[self.roll() as usize % numbers.len()]
    }

    /// A random number of at most that many bits.
    fn bits(&mut self, most: u32) -> u32 {
        let bits = self.roll() % most + 1;
        self.roll() >> (32 - bits)
    }

    /// A definition that the kernel may accept, or one with arbitrary numbers.
    fn map(&mut self, is_wild: bool) -> Numbers {
        // A missing type and struct_ops are refused before the other fields are checked.
        let mut kind = self.roll() % 37;
        while [0, 26].contains(&kind) && self.roll() % 256 != 0 {
            kind = self.roll() % 37;
        }
        if self.roll() % 64 == 0 {
            kind = self.roll();
        }
        if is_wild {
            let (key, value, entries) = (self.bits(32), self.bits(32), self.bits(32));
            return [kind, key, value, entries, if self.roll() % 2 == 0 { 0 } else { self.bits(16) }];
        }
        let (small, any) = ([4, 8, 12, 16, 64, 500], [4, 8, 20, 64, 400, 4096, 32768, 1 << 20]);
        let entries = [1, 2, 100, 1000, 4096, 65536, 1 << 20, 1 << 22, 1 << 24];
        let [mut key, mut value, entries] = [self.of(&small), self.of(&any), self.of(&entries)];
        let mut flags = self.of(&[0, 0, 0, 1, 2, 1 << 10]);
        // The kernel requires this of such maps.
        match kind {
            2 | 6 => key = 4,
            3 | 4 | 8 | 14..=18 | 20 | 25 => (key, value) = (4, 4),
            7 => (key, value) = (4, self.of(&[8, 80, 1016])),
            11 => flags = 1,
            22 | 23 | 30 => key = 0,
            24 | 28 | 29 | 32 => return [kind, 4, value, 0, 1],
            27 | 31 => (key, value, flags) = (0, 0, 0),
            33 => (key, value, flags) = (0, 0, 1 << 10),
            _ => {}
        }
        [kind, key, value, entries, flags]
    }
}

/// The outcomes of the objects.
#[derive(Default, Debug)]
struct Outcomes {
    loaded: u32,
    over_budget: u32,
    refused: u32,
}

impl Outcomes {
    fn count(&mut self, result: Result<(), Error>, maps: &[Numbers]) {
        let Err(error) = result else {
            self.loaded += 1;
            return;
        };
        let is_plain = !error.message().contains('\n') && !error.message().ends_with('.');
        assert!(is_plain && error.status() != Status::Internal, "{error} of {maps:?}");
        if error.hint() == Some(&Hint::KernelMemory) {
            assert_eq!(error.status(), Status::NoMem);
            assert!(matches!(error.subject(), Some(Subject::Map(_))), "{error} of {maps:?}");
            self.over_budget += 1;
        } else {
            assert_ne!(
                error.errno(),
                Some(libc::ENOMEM),
                "the budget let in what there is no memory for: {error} of {maps:?}"
            );
            self.refused += 1;
        }
    }
}

fn load(object: &[u8]) -> Result<(), Error> {
    let vm = Vm::new(Options::new().max_kernel_memory(BUDGET))?;
    vm.open_object(object, None)?;
    vm.load().inspect_err(|error| {
        assert!(error.subject().is_some(), "what the kernel refuses has a name: {error}");
    })
}

/// The kernel frees maps asynchronously. The next object is loaded after that.
fn wait_for_memory(group: &Path) {
    let file = ["memory.usage_in_bytes", "memory.current"].map(|name| group.join(name));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = file.iter().find_map(|file| fs::read_to_string(file).ok()).expect("the group counts");
        if text.trim().parse::<u64>().expect("a number") < LIMIT - BUDGET {
            return;
        }
        assert!(Instant::now() < deadline, "the memory of maps that are gone does not come back: {text}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Loads all objects, in a process of its own.
fn load_all(folder: &Path) {
    let group = fs::read_to_string(folder.join("group")).unwrap();
    let mut outcomes = Outcomes::default();
    for maps in [1, 4, 60] {
        let object = fs::read(folder.join(maps.to_string())).unwrap();
        let places = places(&object, maps);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ maps as u64);
        for round in 0..ROUNDS / 3 {
            let mut object = object.clone();
            let made: Vec<Numbers> = (0..maps).map(|_| dice.map(round % 4 == 0)).collect();
            for (numbers, places) in made.iter().zip(&places) {
                for (number, places) in numbers.iter().zip(places) {
                    for at in places {
                        object[*at..*at + 4].copy_from_slice(&number.to_le_bytes());
                    }
                }
            }
            outcomes.count(load(&object), &made);
            wait_for_memory(Path::new(&group));
        }
    }
    println!("{outcomes:?}");
    let Outcomes { loaded, over_budget, refused } = outcomes;
    // There must be some of each; otherwise this test checks nothing.
    assert!(loaded >= 20 && over_budget >= 20 && refused >= 20, "{loaded} {over_budget} {refused}");
}

#[test]
fn hostile_maps_are_loaded_within_the_budget_or_refused_with_their_names() {
    needs_root!();
    if let Some(folder) = child::folder() {
        return load_all(&folder);
    }
    let folder = tempfile::tempdir().unwrap();
    for maps in [1, 4, 60] {
        fs::write(folder.path().join(maps.to_string()), template(maps, folder.path())).unwrap();
    }
    let watch = Watch::new();
    let group = MemoryCgroup::new(LIMIT);
    fs::write(folder.path().join("group"), group.folder().to_str().unwrap()).unwrap();
    let wrapper = group.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let test = "fuzz::hostile_maps_are_loaded_within_the_budget_or_refused_with_their_names";
    child::run(test, &wrapper, folder.path());
    assert_eq!(group.kills(), 0, "the process was killed because memory ran out");
    watch.kernel_is_clean();
}

/// libbpf would look for operations that such a map does not have, and crash.
#[test]
fn a_struct_ops_map_that_is_defined_like_any_other_is_refused() {
    needs_root!();
    let folder = tempfile::tempdir().unwrap();
    let mut object = template(1, folder.path());
    for at in places(&object, 1)[0][0].clone() {
        object[at..at + 4].copy_from_slice(&26u32.to_le_bytes());
    }
    let vm = Vm::new(Options::new()).unwrap();
    let error = vm.open_object(&object, None).unwrap_err();
    assert_eq!(error.status(), Status::Package);
    assert!(error.message().contains("a struct_ops map in .maps"), "{error}");
}
