//! Guests that follow a script in their memory: it lists calls to any import with any arguments. A guest makes one more of
//! these calls whenever the host calls it.

/// All imports: module, name, a letter for each parameter (see `value`; capitals are 64 bits wide), result.
const IMPORTS: &[(&str, &str, &str, &str)] = &[
    ("env", "create_bpf", "pl", "i"),
    ("env", "run_bpf", "k", "i"),
    ("env", "wait_and_poll_bpf", "k", "i"),
    ("wasm_bpf", "wasm_load_bpf_object", "pl", "I"),
    ("wasm_bpf", "wasm_close_bpf_object", "H", "i"),
    ("wasm_bpf", "wasm_attach_bpf_program", "Hpp", "i"),
    ("wasm_bpf", "wasm_bpf_map_fd_by_name", "Hp", "i"),
    ("wasm_bpf", "wasm_bpf_map_operate", "mcpppN", "i"),
    ("wasm_bpf", "wasm_bpf_buffer_poll", "Hmknplt", "i"),
    ("callback-wrapper", "wasm_bpf_buffer_poll", "Hmnplt", "i"),
    ("wasi_snapshot_preview1", "args_get", "pp", "i"),
    ("wasi_snapshot_preview1", "args_sizes_get", "pp", "i"),
    ("wasi_snapshot_preview1", "clock_res_get", "kp", "i"),
    ("wasi_snapshot_preview1", "clock_time_get", "kNp", "i"),
    ("wasi_snapshot_preview1", "environ_get", "pp", "i"),
    ("wasi_snapshot_preview1", "environ_sizes_get", "pp", "i"),
    ("wasi_snapshot_preview1", "fd_advise", "mNNn", "i"),
    ("wasi_snapshot_preview1", "fd_close", "m", "i"),
    ("wasi_snapshot_preview1", "fd_fdstat_get", "mp", "i"),
    ("wasi_snapshot_preview1", "fd_filestat_get", "mp", "i"),
    ("wasi_snapshot_preview1", "fd_pread", "mvkNp", "i"),
    ("wasi_snapshot_preview1", "fd_prestat_dir_name", "mpl", "i"),
    ("wasi_snapshot_preview1", "fd_prestat_get", "mp", "i"),
    ("wasi_snapshot_preview1", "fd_read", "mvkp", "i"),
    ("wasi_snapshot_preview1", "fd_readdir", "mplNp", "i"),
    ("wasi_snapshot_preview1", "fd_seek", "mNkp", "i"),
    ("wasi_snapshot_preview1", "fd_tell", "mp", "i"),
    ("wasi_snapshot_preview1", "fd_write", "mvkp", "i"),
    ("wasi_snapshot_preview1", "path_filestat_get", "mkqlp", "i"),
    ("wasi_snapshot_preview1", "path_open", "mkqlkNNkp", "i"),
    ("wasi_snapshot_preview1", "path_readlink", "mqlplp", "i"),
    ("wasi_snapshot_preview1", "poll_oneoff", "pplp", "i"),
    ("wasi_snapshot_preview1", "random_get", "pl", "i"),
    ("wasi_snapshot_preview1", "sock_recv", "mplkpp", "i"),
    ("env", "printf", "pp", "i"),
    ("env", "puts", "p", "i"),
    ("env", "putchar", "n", "i"),
    ("env", "sprintf", "ppp", "i"),
    ("env", "snprintf", "plpp", "i"),
    ("env", "malloc", "l", "i"),
    ("env", "calloc", "kl", "i"),
    ("env", "realloc", "bl", "i"),
    ("env", "free", "b", ""),
    ("env", "strdup", "p", "i"),
    ("env", "memchr", "pnl", "i"),
    ("env", "memcmp", "ppl", "i"),
    ("env", "memcpy", "ppl", "i"),
    ("env", "memmove", "ppl", "i"),
    ("env", "memset", "pnl", "i"),
    ("env", "strchr", "pn", "i"),
    ("env", "strcmp", "pp", "i"),
    ("env", "strcpy", "pp", "i"),
    ("env", "strlen", "p", "i"),
    ("env", "strncmp", "ppl", "i"),
    ("env", "strncasecmp", "ppl", "i"),
    ("env", "strncpy", "ppl", "i"),
    ("env", "strspn", "pp", "i"),
    ("env", "strcspn", "pp", "i"),
    ("env", "strstr", "pp", "i"),
    ("env", "atoi", "p", "i"),
    ("env", "strtol", "ppk", "i"),
    ("env", "strtoul", "ppk", "i"),
    ("env", "isalpha", "n", "i"),
    ("env", "isspace", "n", "i"),
    ("env", "isxdigit", "n", "i"),
    ("env", "tolower", "n", "i"),
    ("env", "toupper", "n", "i"),
    ("env", "clock_gettime", "kp", "i"),
    ("env", "clock", "", "I"),
    ("env", "exit", "n", ""),
    ("env", "abort", "", ""),
];

/// Functions of C's library begin here.
const LIBC: usize = 34;
/// `putchar`: an empty line reports to the host that a step has been made.
const COUNT: usize = 36;
/// These follow the imports: writing 8 bytes anywhere, and growing the memory.
const POKE: usize = IMPORTS.len();
const GROW: usize = POKE + 1;

/// A step of a script: the function and 9 arguments, 8 bytes each.
const STEP: usize = 80;
const STEPS: usize = 48;

/// Addresses in the guest's memory, which with the default heap ends at `END`.
const SCRIPT: u32 = 4096;
const TEXTS: u32 = 1024;
const PIECES: u32 = 2048;
const PACKAGE: u32 = 16 << 10;
const END: u32 = (2 << 16) + (2 << 20);

/// The strings. Each starts at a multiple of 32 after `TEXTS`.
const NAMES: [&str; 16] = [
    "counts",
    "per_cpu",
    "events",
    "programs",
    "on_getpgid",
    "sub/file",
    "sub",
    "../outside",
    "/etc/passwd",
    "link",
    ".",
    "%d %s %5.3f %-20llx%c",
    "%s%s%99999999d%n%.999999999f",
    "%ls%llf%*d%hhd%",
    "0x7fffffffffffffffffff",
    "ready",
];

/// The exports of each guest in addition to `bpf_main`.
const GUESTS: [&str; 4] = [
    "",
    r#"(export "process_event" (func $called))"#,
    r#"(export "process_event" (func $called)) (func (export "eunomia_event_format") (result i32) (i32.const 0))
       (func (export "malloc") (param i32) (result i32) (call $called (i32.const 0) (i32.const 0) (i32.const 0)))
       (func (export "free") (param i32) (drop (call $called (i32.const 0) (i32.const 0) (i32.const 0))))"#,
    r#"(export "process_events" (func $called)) (export "go-callback" (func $called))"#,
];

fn bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

fn wide(letter: char) -> &'static str {
    if letter.is_ascii_uppercase() { "i64" } else { "i32" }
}

/// A guest that follows the script at `SCRIPT`. When the host calls it, it makes the next step.
fn module(exports: &str, package: &[u8], object: &[u8]) -> Vec<u8> {
    let (mut imports, mut cases) = (String::new(), String::new());
    for (index, (module, name, params, result)) in IMPORTS.iter().enumerate() {
        let types: Vec<&str> = params.chars().map(wide).collect();
        let result_type =
            result.chars().map(|letter| format!("(result {})", wide(letter))).collect::<String>();
        imports += &format!(
            "(import \"{module}\" \"{name}\" (func $f{index} (param {}) {result_type}))\n",
            types.join(" ")
        );
        let load = |(at, ty): (usize, &&str)| format!("({ty}.load offset={} (local.get $at))", 8 + 8 * at);
        let args: String = types.iter().enumerate().map(load).collect();
        let drop = if result.is_empty() { "" } else { "drop" };
        cases += &format!("(call $f{index} {args}) {drop} return)\n");
    }
    let blocks = "(block ".repeat(GROW + 1);
    let labels: String = (0..=GROW).map(|label| format!("{label} ")).collect();
    let texts: String = NAMES
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let at = TEXTS + 32 * i as u32;
            format!("(data (i32.const {at}) \"{}\\00\")", bytes(name.as_bytes()))
        })
        .collect();
    let pieces: Vec<u8> =
        [(PACKAGE, 16), (END - 4, 4), (END - 4, 5), (0, u32::MAX), (u32::MAX, 1), (TEXTS, 0)]
            .iter()
            .flat_map(|(at, len)| [at.to_le_bytes(), len.to_le_bytes()].concat())
            .collect();
    let text = format!(
        r#"(module {imports} (memory (export "memory") 2) (global $next (mut i32) (i32.const {SCRIPT}))
          (global $depth (mut i32) (i32.const 0))
          (table (export "__indirect_function_table") 4 funcref) (elem (i32.const 1) $called $step)
          (func $step (param $at i32)
            (drop (call $f{COUNT} (i32.const 10)))
            {blocks} (br_table {labels} (i32.load (local.get $at))))
            {cases}
            (i64.store (i32.rem_u (i32.load offset=8 (local.get $at))
                (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 8)))
              (i64.load offset=16 (local.get $at))) return)
            (drop (memory.grow (i32.and (i32.load offset=8 (local.get $at)) (i32.const 31)))))
          (func $more (result i32) (local $at i32)
            (local.set $at (global.get $next))
            (if (i32.ge_u (local.get $at) (i32.const {})) (then (return (i32.const 0))))
            (global.set $next (i32.add (local.get $at) (i32.const {STEP})))
            (call $step (local.get $at)) (i32.const 1))
          (func $called (param i32 i32 i32) (result i32)
            (if (i32.lt_u (global.get $depth) (i32.const 8)) (then
              (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
              (drop (call $more))
              (global.set $depth (i32.sub (global.get $depth) (i32.const 1)))))
            (i32.load offset=8 (global.get $next)))
          (func (export "bpf_main") (param i32 i32) (result i32)
            (loop (br_if 0 (call $more))) (i32.const 0))
          {exports} {texts} (data (i32.const {PIECES}) "{}") (data (i32.const {PACKAGE}) "{}\00{}")
          (data (i32.const {SCRIPT}) "{}"))"#,
        SCRIPT as usize + STEP * STEPS,
        bytes(&pieces),
        bytes(package),
        bytes(object),
        // Marks the position.
        bytes(&marker()),
    );
    wat::parse_str(text).expect("the text is a module")
}

fn marker() -> Vec<u8> {
    (0..STEP * STEPS).map(|at| (at * 7 % 251) as u8 | 1).collect()
}

/// A source of choices.
pub trait Choices {
    fn next(&mut self) -> u64;

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// The guests and the addresses of their data.
pub struct Guests {
    modules: Vec<Vec<u8>>,
    package_len: u32,
    object_at: u32,
    object_len: u32,
}

impl Guests {
    /// Builds the guests with a package and an object of the program `CALLS`, which they load.
    pub fn new(package: &[u8], object: &[u8]) -> Guests {
        let modules = GUESTS.iter().map(|exports| module(exports, package, object)).collect();
        let package_len = package.len() as u32;
        Guests { modules, package_len, object_at: PACKAGE + package_len + 1, object_len: object.len() as u32 }
    }

    /// Returns an argument of the kind `letter`. On average, one of `edges_in` arguments is a boundary value or an arbitrary
    /// number.
    fn value(&self, letter: char, edges_in: usize, random: &mut impl Choices) -> u64 {
        let edges = [
            0,
            1,
            3,
            65535,
            131_072,
            END - 8,
            END - 4,
            END - 1,
            END,
            END + 1,
            1 << 31,
            u32::MAX - 7,
            u32::MAX,
        ];
        if random.below(edges_in) == 0 {
            return match random.below(3) {
                0 => random.next() << 16 ^ random.next(),
                1 => i64::from(random.of(&edges) as i32) as u64,
                _ => random.of(&edges).into(),
            };
        }
        let name = TEXTS + 32 * random.below(NAMES.len()) as u32;
        u64::from(match letter {
            // A pointer: to a string, to memory for results, to an object or to a package.
            'p' => random.of(&[name, name, 60 << 10, END - 64, PACKAGE, self.object_at, PIECES]),
            'l' => random.of(&[0, 1, 4, 8, 10, 16, 64, 4096, self.package_len, self.object_len]),
            'q' => name,
            'v' => PIECES + 8 * random.below(6) as u32,
            // A block of the heap.
            'b' => random.of(&[131_072, 131_088, 131_104, 131_200]),
            'm' => random.below(8) as u32,
            'H' => 1 + random.below(3) as u32,
            'c' => 1 + random.below(5) as u32,
            't' => random.below(2) as u32,
            'k' => random.of(&[0, 0, 1, 1, 2, 3, 16, u32::MAX]),
            _ => random.below(300) as u32,
        })
    }

    fn step(&self, what: usize, random: &mut impl Choices) -> Vec<u64> {
        let letters = IMPORTS.get(what).map_or("pN", |import| import.2);
        let mut step = vec![what as u64];
        // An invalid pointer to a function of C is a trap and ends the run.
        let edges_in = if what < LIBC { 6 } else { 60 };
        step.extend(letters.chars().map(|letter| self.value(letter, edges_in, random)));
        step.resize(STEP / 8, u64::from(u32::MAX) * (random.below(8) == 0) as u64);
        step
    }

    fn named(&self, name: &str, args: &[u64]) -> Vec<u64> {
        let what = IMPORTS.iter().position(|import| import.1 == name).expect("an import");
        let mut step = [&[what as u64], args].concat();
        step.resize(STEP / 8, 0);
        step
    }

    /// The first calls of a well-behaved guest, so that there is something to misuse.
    fn beginning(&self, random: &mut impl Choices) -> Vec<Vec<u64>> {
        let text = |index: u32| u64::from(TEXTS + 32 * index);
        let ready = self.named("puts", &[text(15)]);
        let load = self.named("wasm_load_bpf_object", &[self.object_at.into(), self.object_len.into()]);
        let maps = (0..4).map(|index| self.named("wasm_bpf_map_fd_by_name", &[1, text(index)]));
        match random.below(16) {
            0 => vec![
                self.named("create_bpf", &[PACKAGE.into(), 0]),
                self.named("run_bpf", &[0]),
                ready,
                self.named("wait_and_poll_bpf", &[0]),
            ],
            1 => {
                let mut steps = vec![load, self.named("wasm_attach_bpf_program", &[1, text(4), 0])];
                steps.extend(maps);
                steps.push(ready);
                steps.push(self.named("wasm_bpf_buffer_poll", &[1, 5, 1, 0, 60 << 10, 4096, 1]));
                steps
            }
            2 | 3 => std::iter::once(load).chain(maps).collect(),
            _ => Vec::new(),
        }
    }

    /// A guest with a script.
    pub fn guest(&self, random: &mut impl Choices) -> Vec<u8> {
        let mut steps = self.beginning(random);
        while steps.len() < STEPS {
            let what =
                if random.below(3) > 0 { random.below(LIBC) } else { LIBC + random.below(GROW + 1 - LIBC) };
            // Functions that end the run are rare.
            let ends = matches!(IMPORTS.get(what), Some((_, "exit" | "abort" | "wait_and_poll_bpf", ..)));
            if !ends || random.below(32) == 0 {
                steps.push(self.step(what, random));
            }
        }
        let script: Vec<u8> = steps[..STEPS].iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        let mut module = self.modules[random.below(self.modules.len())].clone();
        let marker = marker();
        let at =
            module.windows(marker.len()).position(|window| window == marker).expect("the script's place");
        module[at..at + script.len()].copy_from_slice(&script);
        module
    }
}
