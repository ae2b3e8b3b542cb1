//! Tests of the files of a release: the Debian packages that `make deb` built, and the workflows, whose steps are targets of make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

// ---- Debian packages --------------------------------------------------------------------------------------------

/// Each package, files that it must contain, and words of its dependencies.
const PACKAGES: [(&str, &[&str], &[&str]); 6] = [
    (
        "libeunomia0",
        &["./usr/lib/TRIPLET/libeunomia.so.MINOR -> libeunomia.so.VERSION"],
        &["libc6 (>= 2.34)"],
    ),
    (
        "libeunomia-dev",
        &[
            "./usr/include/eunomia.h",
            "./usr/include/eunomia.hpp",
            "./usr/lib/TRIPLET/libeunomia.so -> libeunomia.so.MINOR",
            "./usr/lib/TRIPLET/libeunomia.a",
            "./usr/lib/TRIPLET/pkgconfig/eunomia.pc",
            "./usr/lib/TRIPLET/cmake/eunomia/eunomia-config.cmake",
            "./usr/share/man/man3/eunomia.3.gz",
        ],
        &["libeunomia0 (= VERSION)"],
    ),
    ("ecc", &["./usr/bin/ecc"], &["clang", "libc6"]),
    (
        "ecli",
        &["./usr/bin/ecli", "./usr/share/man/man1/ecli.1.gz", "./usr/share/bash-completion/completions/ecli"],
        &["libc6"],
    ),
    (
        "eunomia-agent",
        &[
            "./usr/bin/ecli-server -> ecli",
            "./usr/lib/systemd/system/eunomia-agent.service",
            "./usr/lib/systemd/system/eunomia-agent.socket",
            "./usr/lib/systemd/system/eunomia-loader.service",
            "./usr/lib/systemd/system/eunomia-loader.socket",
            "./usr/lib/sysusers.d/eunomia.conf",
        ],
        &["ecli (= VERSION)", "systemd"],
    ),
    (
        "python3-eunomia",
        &[
            "./usr/lib/python3/dist-packages/eunomia/__init__.py",
            "./usr/lib/python3/dist-packages/eunomia/py.typed",
        ],
        &["python3 (>= 3.9)", "libeunomia0 (>= VERSION)", "libeunomia0 (<< "],
    ),
];

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn package(name: &str) -> PathBuf {
    let files = fs::read_dir(Path::new(ROOT).join("target/dist")).expect("`make deb` was run").flatten();
    let prefix = format!("{name}_{VERSION}_");
    let mut paths = files.map(|file| file.path());
    let is_it =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    paths.find(is_it).unwrap_or_else(|| panic!("no package {name} in target/dist: run `make deb` first"))
}

fn field(package: &Path, name: &str) -> String {
    output(Command::new("dpkg-deb").arg("--field").arg(package).arg(name)).trim().to_owned()
}

/// The lines of `dpkg-deb --contents`.
fn contents(package: &Path) -> Vec<String> {
    output(Command::new("dpkg-deb").arg("--contents").arg(package)).lines().map(str::to_owned).collect()
}

#[test]
fn each_debian_package_has_its_files_and_dependencies() {
    let triplet = output(Command::new("gcc").arg("-print-multiarch"));
    let minor = VERSION.rsplit_once('.').expect("a version has dots").0;
    let filled = |text: &str| {
        text.replace("TRIPLET", triplet.trim()).replace("MINOR", minor).replace("VERSION", VERSION)
    };
    for (name, files, dependencies) in PACKAGES {
        let package = package(name);
        let (contents, depends) = (contents(&package), field(&package, "Depends"));
        let documents = format!("./usr/share/doc/{name}");
        let documents = [format!("{documents}/copyright"), format!("{documents}/changelog.gz")];
        for file in files.iter().map(|file| filled(file)).chain(documents) {
            assert!(
                contents.iter().any(|line| line.ends_with(&format!(" {file}"))),
                "{name} lacks {file}: {contents:#?}"
            );
        }
        for dependency in dependencies.iter().map(|dependency| filled(dependency)) {
            assert!(depends.contains(&dependency), "{name} does not depend on {dependency}: {depends}");
        }
        let is_roots = |line: &String| line.split_whitespace().nth(1) == Some("root/root");
        assert!(contents.iter().all(is_roots), "{name}: {contents:#?}");
    }
}

#[test]
fn no_file_is_in_two_debian_packages() {
    let mut files: Vec<String> = Vec::new();
    for (name, ..) in PACKAGES {
        let listed = contents(&package(name));
        let paths = listed
            .iter()
            .filter(|line| !line.starts_with('d'))
            .filter_map(|line| line.split_whitespace().nth(5));
        files.extend(paths.map(str::to_owned));
    }
    files.sort();
    let twice: Vec<_> = files.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(!files.iter().any(|file| file.contains("dist-packages") && file.ends_with(".so")), "{files:#?}");
}

/// A host linked with this version must not get the next one, which may be incompatible.
#[test]
fn programs_linked_with_the_library_depend_on_this_minor_version() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    output(Command::new("dpkg-deb").arg("--control").arg(package("libeunomia0")).arg(folder.path()));
    let shlibs = fs::read_to_string(folder.path().join("shlibs")).expect("the package has shlibs");
    let minor: Vec<u32> = VERSION.split('.').map(|part| part.parse().expect("a number")).collect();
    let expected = format!(
        "libeunomia {}.{} libeunomia0 (>= {VERSION}), libeunomia0 (<< {}.{}~)\n",
        minor[0],
        minor[1],
        minor[0],
        minor[1] + 1
    );
    assert_eq!(shlibs, expected);
}

// ---- workflows --------------------------------------------------------------------------------------------------

/// The commands of a workflow: its `run:` lines, and the items of a matrix called `command`.
fn commands(workflow: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for line in workflow.lines().map(|line| line.trim().trim_start_matches("- ")) {
        if let Some(command) = line.strip_prefix("run: ") {
            commands.push(command.to_owned());
        } else if let Some(list) = line.strip_prefix("command: [").and_then(|list| list.strip_suffix(']')) {
            commands.extend(list.split(", ").map(str::to_owned));
        }
    }
    commands
}

/// Whether a person can run the command here as well: a target of make, or a part of .ci/run.
fn is_known(command: &str, makefile: &str, ci: &str) -> bool {
    let mut words = command.split_whitespace();
    match (words.next(), words.next()) {
        (Some("make"), Some(target)) => makefile.contains(&format!("\n{target}: ")),
        (Some(".ci/run"), Some(part)) => ci.contains(&format!("\n    {part})")),
        // A job with a matrix runs this; the items of the matrix are checked as commands.
        (Some("${{"), Some("matrix.command")) => true,
        // Only the workflows on the project's host can publish.
        (Some("gh"), Some("release")) => true,
        _ => false,
    }
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(ROOT).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn each_step_of_the_workflows_is_a_target_of_make() {
    let (makefile, ci) = (read("Makefile"), read(".ci/run"));
    let workflows = fs::read_dir(Path::new(ROOT).join(".github/workflows")).expect("there are workflows");
    let mut found = 0;
    for workflow in workflows.flatten() {
        for command in commands(&read(workflow.path())) {
            assert!(is_known(&command, &makefile, &ci), "{}: {command}", workflow.path().display());
            found += 1;
        }
    }
    assert!(found >= 10, "only {found} commands found");
}

#[test]
fn a_step_that_is_no_target_is_caught() {
    let (makefile, ci) = (read("Makefile"), read(".ci/run"));
    for command in ["make lnt", ".ci/run tests", "cargo build", "|", "make"] {
        assert!(!is_known(command, &makefile, &ci), "{command}");
    }
    assert_eq!(
        commands("  - run: make lint\n    command: [make docs, make deny]"),
        ["make lint", "make docs", "make deny"]
    );
}

/// The job with the oldest Rust reads its version from Cargo.toml; so does the setup script's check.
#[test]
fn the_oldest_rust_is_the_same_everywhere() {
    let manifest = read("Cargo.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("a rust-version");
    let version = version.trim_end_matches('"');
    assert!(read("tools/setup.sh").contains(&format!("RUST_MIN={version}\n")), "tools/setup.sh");
    assert!(read("README.md").contains(&format!("Rust {version}")), "README.md");
}
