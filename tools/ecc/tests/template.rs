//! `examples/template`, a repository to start from: its workflow is parsed as GitHub does it, and its steps are run, with
//! replacements for the programs that use the network.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Project, may_load};
use yaml_rust2::{Yaml, YamlLoader};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn workflow() -> Yaml {
    let path = root().join("examples/template/.github/workflows/publish.yml");
    YamlLoader::load_from_str(&fs::read_to_string(path).unwrap()).unwrap().remove(0)
}

fn text<'a>(yaml: &'a Yaml, key: &str) -> &'a str {
    yaml[key].as_str().unwrap_or_else(|| panic!("no {key} in {yaml:?}"))
}

/// A program of the project that is found before the system's.
fn stand_in(project: &Project, name: &str, script: &str) {
    let path = project.path("bin").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_workflow_is_valid_for_github() {
    let workflow = workflow();
    for event in ["push", "pull_request"] {
        assert!(workflow["on"].as_hash().unwrap().contains_key(&Yaml::String(event.into())), "{event}");
    }
    for (name, job) in workflow["jobs"].as_hash().unwrap() {
        assert!(text(job, "runs-on").starts_with("ubuntu-"), "{name:?}");
        for step in job["steps"].as_vec().unwrap() {
            let (uses, run) = (step["uses"].as_str(), step["run"].as_str());
            assert!(uses.is_some() != run.is_some(), "a step either uses or runs: {step:?}");
            assert!(uses.is_none_or(|uses| uses.starts_with("actions/") && uses.contains("@v")), "{step:?}");
        }
    }
    // GitHub Pages requires these for a deployment.
    let deploy = &workflow["jobs"]["deploy"];
    assert_eq!(text(&deploy["permissions"], "pages"), "write");
    assert_eq!(text(&deploy["permissions"], "id-token"), "write");
    assert_eq!(text(&deploy["environment"], "name"), "github-pages");
    assert_eq!(text(deploy, "needs"), "build");
    assert_eq!(text(&workflow["env"], "VERSION"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_steps_of_the_workflow_publish_a_package() {
    if !may_load("the_steps_of_the_workflow_publish_a_package") {
        return;
    }
    let project = Project::new("template").file("temp/x", "").file("path", "");
    let repository = project.path("repository");
    let copied = Command::new("cp").arg("-r").arg(root().join("examples/template")).arg(&repository).status();
    assert!(copied.unwrap().success());
    let archive =
        format!("eunomia-{}-{}-linux-gnu.tar.gz", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let archive = root().join("target/dist").join(archive);
    assert!(archive.exists(), "{} is missing: run `make archive` first", archive.display());
    // Nothing needs to be installed, and the release is an archive.
    stand_in(&project, "apt-get", "exit 0");
    stand_in(&project, "sudo", "case $1 in --*) shift;; esac\nexec \"$@\"");
    let copy = format!(
        "for last; do :; done\ncase $last in https://*/v{}/{}) ;; *) exit 22;; esac\n\
         while [ \"$1\" != --output ]; do shift; done\ncp '{}' \"$2\"",
        env!("CARGO_PKG_VERSION"),
        archive.file_name().unwrap().to_str().unwrap(),
        archive.display()
    );
    stand_in(&project, "curl", &copy);

    let workflow = workflow();
    let mut path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    for step in workflow["jobs"]["build"]["steps"].as_vec().unwrap() {
        let Some(script) = step["run"].as_str() else { continue };
        let mut command = Command::new("bash");
        // The steps run as on GitHub.
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).current_dir(&repository);
        command.env("PATH", &path).env("GITHUB_PATH", project.path("path")).env_remove("CLANG");
        command.env("RUNNER_TEMP", project.path("temp"));
        for (name, value) in workflow["env"].as_hash().unwrap() {
            command.env(name.as_str().unwrap(), value.as_str().unwrap());
        }
        let output = command.output().unwrap();
        let messages =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}\n{messages}");
        let added = fs::read_to_string(project.path("path")).unwrap();
        path = added.lines().fold(path, |path, dir| format!("{dir}:{path}"));
        fs::write(project.path("path"), "").unwrap();
    }
    assert!(project.path("temp/eunomia/bin/ecc").exists());
    let site = repository
        .join(text(&workflow["jobs"]["build"]["steps"].as_vec().unwrap().last().unwrap()["with"], "path"));
    let package = fs::read(site.join("package.json")).unwrap();
    let package = eunomia::package::Package::parse(&package).unwrap();
    assert_eq!(package.meta.obj_name, "hello_bpf");
    assert_eq!(package.meta.export_types[0].name, "event");
    let page = fs::read_to_string(site.join("index.html")).unwrap();
    assert!(page.contains("<h1>hello</h1>") && page.contains("ecli run") && !page.contains("@NAME@"));
}
