//! Tests of the archive: unpacked into an empty directory, it is used through pkg-config and CMake, linked both ways. Also
//! the library in a process with another libbpf, and under dlopen. `make test` builds the archive first.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{example, host, root};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The contents of the archive, unpacked for one test.
struct Installed {
    /// Removed after the test.
    folder: tempfile::TempDir,
}

impl Installed {
    fn new() -> Installed {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let name = format!("target/dist/eunomia-{VERSION}-{}-linux-gnu.tar.gz", std::env::consts::ARCH);
        let archive = root().join(name);
        assert!(archive.exists(), "{} is missing: run `make archive` first", archive.display());
        run(Command::new("tar")
            .arg("-xzf")
            .arg(archive)
            .arg("--strip-components=1")
            .arg("-C")
            .arg(folder.path()));
        fs::create_dir(folder.path().join("work")).expect("a directory");
        Installed { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The flags that pkg-config prints.
    fn flags(&self, more: &[&str]) -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command
            .env("PKG_CONFIG_PATH", self.path("lib/pkgconfig"))
            .args(more)
            .args(["--cflags", "--libs", "eunomia"]);
        run(&mut command).split_whitespace().map(str::to_owned).collect()
    }

    /// Compiles an example outside the tree.
    fn compile(&self, compiler: &str, example: &str, flags: &[String]) -> PathBuf {
        let program = self.path("work").join(example.replace('/', "-"));
        let source =
            self.path("work").join(example.replace('/', "-") + if compiler == "cc" { ".c" } else { ".cpp" });
        let original =
            root().join("examples").join(example).with_extension(if compiler == "cc" { "c" } else { "cpp" });
        fs::copy(original, &source).expect("the example is copied");
        run(Command::new(compiler)
            .current_dir(self.path("work"))
            .arg(source)
            .args(flags)
            .arg("-o")
            .arg(&program));
        program
    }
}

/// Runs a command, which must succeed, and returns its output.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Runs a host that prints the first process exit, while processes exit.
fn prints_an_event(program: &mut Command) {
    let package = root().join("target/packages/bootstrap/package.json");
    assert!(package.exists(), "{} is missing: run `make packages` first", package.display());
    example::prints(program.arg(package), &["\"exit_event\":true"]);
}

/// The shared libraries that a file needs.
fn needed(file: &Path) -> String {
    let dynamic = run(Command::new("readelf").arg("-dW").arg(file));
    dynamic.lines().filter(|line| line.contains("(NEEDED)")).collect::<Vec<_>>().join("\n")
}

// ---- from the archive -----------------------------------------------------------------------------------------

#[test]
fn c_and_cpp_find_the_library_with_pkg_config() {
    needs_root!();
    let installed = Installed::new();
    let flags = installed.flags(&[]);
    for (compiler, example) in [("cc", "c/first"), ("c++", "cpp/first")] {
        let program = installed.compile(compiler, example, &flags);
        assert!(needed(&program).contains(&format!("libeunomia.so.{}", minor())), "{}", needed(&program));
        prints_an_event(Command::new(program).env("LD_LIBRARY_PATH", installed.path("lib")));
    }
}

/// Major and minor version.
fn minor() -> &'static str {
    VERSION.rsplit_once('.').expect("a version has dots").0
}

#[test]
fn pkg_config_has_the_flags_for_static_linking() {
    needs_root!();
    let installed = Installed::new();
    for shared in
        ["libeunomia.so", &format!("libeunomia.so.{}", minor()), &format!("libeunomia.so.{VERSION}")]
    {
        fs::remove_file(installed.path("lib").join(shared)).expect("it was installed");
    }
    for (compiler, example) in [("cc", "c/first"), ("c++", "cpp/first")] {
        let program = installed.compile(compiler, example, &installed.flags(&["--static"]));
        assert!(
            !needed(&program).contains("eunomia") && !needed(&program).contains("bpf"),
            "{}",
            needed(&program)
        );
        prints_an_event(&mut Command::new(program));

        let flags = [vec!["-static".to_owned()], installed.flags(&["--static"])].concat();
        let program = installed.compile(compiler, example, &flags);
        assert_eq!(needed(&program), "");
        prints_an_event(&mut Command::new(program));
    }
}

const PROJECT: &str = "
cmake_minimum_required(VERSION 3.16)
project(first C CXX)
set(CMAKE_CXX_STANDARD 17)
find_package(eunomia WANTED REQUIRED)
add_executable(first-c first.c)
add_executable(first-cpp first.cpp)
add_executable(first-static first.c)
target_link_libraries(first-c eunomia::eunomia)
target_link_libraries(first-cpp eunomia::eunomia)
target_link_libraries(first-static eunomia::static)
";

#[test]
fn cmake_finds_the_library() {
    needs_root!();
    let installed = Installed::new();
    let work = installed.path("work");
    for (from, to) in [("c/first.c", "first.c"), ("cpp/first.cpp", "first.cpp")] {
        fs::copy(root().join("examples").join(from), work.join(to)).expect("the example is copied");
    }
    let configure = |wanted: &str| {
        fs::write(work.join("CMakeLists.txt"), PROJECT.replace("WANTED", wanted)).expect("a project");
        let mut command = Command::new("cmake");
        let prefix = format!("-DCMAKE_PREFIX_PATH={}", installed.folder.path().display());
        command.current_dir(&work).args(["-S", ".", "-B", "build", &prefix]);
        command
    };
    for wrong in ["9.9", "0.0", &format!("{VERSION}.1")] {
        let refused = configure(wrong).output().expect("cmake runs");
        assert!(!refused.status.success(), "{wrong}: {}", String::from_utf8_lossy(&refused.stdout));
    }
    for right in [minor(), VERSION, &format!("{VERSION} EXACT"), ""] {
        run(&mut configure(right));
    }
    run(Command::new("cmake").current_dir(&work).args(["--build", "build"]));
    for program in ["first-c", "first-cpp", "first-static"] {
        prints_an_event(&mut Command::new(work.join("build").join(program)));
    }
    assert!(!needed(&work.join("build/first-static")).contains("eunomia"));
}

#[test]
fn every_file_has_the_same_version() {
    let installed = Installed::new();
    let mut modversion = Command::new("pkg-config");
    modversion.env("PKG_CONFIG_PATH", installed.path("lib/pkgconfig")).args(["--modversion", "eunomia"]);
    assert_eq!(run(&mut modversion).trim(), VERSION);

    let source = installed.path("work/version.c");
    let text = "#include <eunomia.h>\n#include <stdio.h>\n#define TEXT_(x) #x\n#define TEXT(x) TEXT_(x)\n\
                int main(void) { printf(\"%s.%s.%s %d %u %s\", TEXT(EUNOMIA_VERSION_MAJOR), \
                TEXT(EUNOMIA_VERSION_MINOR), TEXT(EUNOMIA_VERSION_PATCH), EUNOMIA_VERSION_NUM, \
                eunomia_version(), eunomia_version_string()); return 0; }\n";
    fs::write(&source, text).expect("the source is written");
    let program = installed.path("work/version");
    run(Command::new("cc").arg(source).args(installed.flags(&[])).arg("-o").arg(&program));
    let said = run(Command::new(program).env("LD_LIBRARY_PATH", installed.path("lib")));
    let parts: Vec<u32> = VERSION.split('.').map(|part| part.parse().expect("a number")).collect();
    let number = parts[0] * 10000 + parts[1] * 100 + parts[2];
    assert!(said.starts_with(&format!("{VERSION} {number} {number} ")), "{said}");
    assert!(said.contains(VERSION), "{said}");

    let page = fs::read_to_string(installed.path("share/man/man3/eunomia.3")).expect("the manual");
    assert!(page.contains(&format!("\"libeunomia {VERSION}\"")));
}

#[test]
fn the_archive_has_licences_and_valid_manual_pages() {
    let installed = Installed::new();
    let notice = fs::read_to_string(installed.path("share/doc/eunomia/NOTICE")).expect("NOTICE");
    assert!(notice.contains("GNU LESSER GENERAL PUBLIC LICENSE"));
    assert!(installed.path("share/doc/eunomia/LICENSE").exists());
    for page in ["man3/eunomia.3", "man1/ecli.1", "man1/ecli-run.1"] {
        let page = installed.path("share/man").join(page);
        let output = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(page)
            .output()
            .expect("groff runs");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for tool in ["ecc", "ecli"] {
        assert!(run(Command::new(installed.path("bin").join(tool)).arg("--version")).contains(VERSION));
    }
    run(Command::new("bash").arg("-n").arg(installed.path("share/bash-completion/completions/ecli")));
}

// ---- with other libraries ----------------------------------------------------------------------------------------

/// Links tests/data/c/two_libbpf.c with Debian's libbpf and libeunomia, each static or shared, in both orders.
#[test]
fn a_host_can_link_its_own_libbpf() {
    needs_root!();
    let installed = Installed::new();
    let (object, package) = (installed.path("work/sampled.o"), installed.path("work/sampled.json"));
    let folder = support::compile(include_str!("conformance/bpf/sampled.bpf.c"));
    fs::copy(folder.path().join("test.bpf.o"), &object).expect("ecc wrote it");
    fs::copy(folder.path().join("package.json"), &package).expect("ecc wrote it");
    let theirs: [&[&str]; 2] = [&["-lbpf"], &["-l:libbpf.a", "-lelf", "-lz"]];
    let ours: [&[&str]; 2] = [&["-leunomia"], &["-l:libeunomia.a", "-lm"]];
    for (theirs, ours) in theirs.iter().flat_map(|theirs| ours.iter().map(move |ours| (theirs, ours))) {
        for libraries in [[*theirs, *ours].concat(), [*ours, *theirs].concat()] {
            let program = installed.path("work/two_libbpf");
            let mut compiler = Command::new("cc");
            compiler.arg(root().join("tests/data/c/two_libbpf.c")).arg("-o").arg(&program);
            compiler.arg("-I").arg(installed.path("include")).arg("-L").arg(installed.path("lib"));
            run(compiler.args(&libraries));
            let mut program = Command::new(program);
            let said = run(program.arg(&object).arg(&package).env("LD_LIBRARY_PATH", installed.path("lib")));
            assert!(said.starts_with("host: libbpf v1.1\n"), "{libraries:?}: {said}");
            assert!(said.contains("(libbpf v1.7,"), "{libraries:?}: {said}");
        }
    }
}

#[test]
fn the_library_can_be_loaded_and_closed_with_dlopen() {
    needs_root!();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let program = folder.path().join("dlopen");
    let mut compiler = Command::new("cc");
    compiler
        .arg(root().join("tests/data/c/dlopen.c"))
        .arg("-o")
        .arg(&program)
        .args(["-Wall", "-Werror", "-pthread"]);
    run(compiler.arg("-I").arg(root().join("include")).arg("-ldl"));
    run(Command::new(program).arg(host::library().join("libeunomia.so")).arg("1000"));
}

/// The shared library applies its packed relocations itself (src/os/relocate.rs). glibc must not see the table, because only
/// 2.36 and newer know it.
#[test]
fn a_stripped_library_relocates_itself_and_protects_its_addresses() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let library = folder.path().join("libeunomia.so");
    run(Command::new("strip").arg("-o").arg(&library).arg(host::library().join("libeunomia.so")));
    let dynamic = run(Command::new("readelf").arg("-dW").arg(&library));
    assert!(!dynamic.contains("(RELR"), "{dynamic}");
    assert!(!run(Command::new("readelf").arg("-VW").arg(&library)).contains("DT_RELR"));

    // The name is read from a table of addresses.
    let load = "import ctypes, sys\n\
                library = ctypes.CDLL(sys.argv[1])\n\
                library.eunomia_status_name.restype = ctypes.c_char_p\n\
                assert library.eunomia_status_name(0) == b'EUNOMIA_OK', library.eunomia_status_name(0)\n\
                print(open('/proc/self/maps').read())\n";
    let maps = run(Command::new("python3").args(["-c", load]).arg(&library));
    let access: Vec<&str> = maps
        .lines()
        .filter(|line| line.ends_with("/libeunomia.so"))
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert_eq!(access, ["r--p", "r-xp", "r--p", "rw-p"], "{maps}");
}
