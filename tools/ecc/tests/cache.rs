//! Headers are cached only where no other user can change them.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use support::Project;

const SOURCE: &str = "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; }";

fn compile(project: &Project) -> String {
    let output = project
        .command(&["pass.bpf.c"])
        .env("XDG_CACHE_HOME", project.path("cache"))
        .env_remove("HOME")
        .output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr
}

#[test]
fn headers_in_a_directory_that_others_can_write_to_are_not_used() {
    let project = Project::new("cache-others").source("pass.bpf.c", SOURCE);
    assert_eq!(compile(&project), "");
    let kept = project.path("cache/libeunomia");
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o077, 0);
    for name in ["cache", "cache/libeunomia"] {
        fs::set_permissions(project.path(name), fs::Permissions::from_mode(0o777)).unwrap();
        let stderr = compile(&project);
        let says = format!("{} is writable by others (mode 777)", project.path(name).display());
        assert!(stderr.contains(&says) && stderr.contains("; not using "), "{stderr}");
        fs::set_permissions(project.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(compile(&project), "");
}

#[test]
fn a_directory_of_another_user_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must not skip it");
        eprintln!("SKIPPED: a_directory_of_another_user_is_not_used needs root");
        return;
    }
    let project = Project::new("cache-owner").source("pass.bpf.c", SOURCE);
    fs::create_dir_all(project.path("cache/libeunomia")).unwrap();
    chown(project.path("cache/libeunomia"), Some(65534), None).unwrap();
    let stderr = compile(&project);
    assert!(stderr.contains("cache/libeunomia belongs to user 65534"), "{stderr}");
    assert!(fs::read_dir(project.path("cache/libeunomia")).unwrap().next().is_none());
}
