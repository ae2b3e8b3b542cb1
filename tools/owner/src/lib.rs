//! Checks that no other user can modify a file or directory, so that its content can be trusted: cached downloads, trusted
//! keys, headers.
//!
//! The file and every directory and link on its path must belong to the user or to root, and must not be writable by others.
//! A directory on the path may be writable if it is sticky, like /tmp, because others cannot rename or remove foreign files
//! there. A private group of the user (with the same number) is not regarded as another user.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Checks a file or directory. A path that does not exist is accepted. The error is one line with the path and the problem.
pub fn check(path: &Path) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    let absolute = std::path::absolute(path).map_err(|error| failure(path, &error))?;
    let real = match fs::canonicalize(&absolute) {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failure(path, &error)),
    };
    // This includes links on the path: the owner of a link decides where it leads.
    let all = [&absolute, &real].map(|path| path.ancestors().map(Path::to_owned).collect::<Vec<PathBuf>>());
    for path in all.concat() {
        let about = fs::symlink_metadata(&path).map_err(|error| failure(&path, &error))?;
        judge(&about, user, path == real).map_err(|why| format!("{} {why}", path.display()))?;
    }
    Ok(())
}

/// The path and what failed, without the number of the error, as one line.
pub fn failure(path: &Path, error: &std::io::Error) -> String {
    let reason = error.to_string();
    format!("{}: {}", path.display(), reason.split(" (os error").next().unwrap_or(&reason))
}

/// Fails if users other than `user` and root can modify the file.
fn judge(about: &Metadata, user: u32, is_target: bool) -> Result<(), String> {
    let (owner, mode) = (about.uid(), about.mode());
    if owner != user && owner != 0 {
        return Err(format!("belongs to user {owner}"));
    }
    // Writing to a device such as /dev/zero does not change what others read.
    if about.is_symlink() || about.file_type().is_char_device() || !is_target && mode & STICKY != 0 {
        return Ok(());
    }
    let has_own_group = owner != 0 && about.gid() == owner;
    let others = if has_own_group { OTHERS_WRITE } else { OTHERS_WRITE | GROUP_WRITES };
    if mode & others == 0 { Ok(()) } else { Err(format!("is writable by others (mode {:o})", mode & 0o7777)) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    struct World {
        folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> World {
            let world = World { folder: tempfile::tempdir().unwrap() };
            fs::create_dir_all(world.at("a/b")).unwrap();
            fs::write(world.at("a/b/file"), "").unwrap();
            for name in ["a", "a/b"] {
                world.mode(name, 0o755);
            }
            world.mode("a/b/file", 0o644);
            world
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    #[test]
    fn private_files_are_accepted_even_in_tmp() {
        let world = World::new();
        for name in ["", "a", "a/b", "a/b/file", "a/none/file"] {
            assert_eq!(check(&world.at(name)), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_path_writable_by_others_is_named() {
        for (name, mode, is_fine) in [
            ("a/b/file", 0o666, false),
            ("a/b/file", 0o622, false),
            ("a/b", 0o777, false),
            ("a/b", 0o1777, true),
            ("a", 0o777, false),
            ("a", 0o703, false),
            ("a", 0o1777, true),
        ] {
            let world = World::new();
            world.mode(name, mode);
            let found = check(&world.at("a/b/file"));
            assert_eq!(found.is_ok(), is_fine, "{name} {mode:o}: {found:?}");
            let place = world.at(name).display().to_string();
            assert!(is_fine || found.is_err_and(|why| why.starts_with(&place) && why.contains("others")));
        }
        // A sticky directory protects existing files, but others can create files in it.
        let world = World::new();
        world.mode("a", 0o1777);
        assert!(check(&world.at("a")).is_err());
    }

    #[test]
    fn a_path_of_another_user_is_named() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must not skip it");
            eprintln!("SKIPPED: a_path_of_another_user_is_named needs root");
            return;
        }
        for name in ["a", "a/b", "a/b/file"] {
            let world = World::new();
            chown(world.at(name), Some(65534), None).unwrap();
            let why = check(&world.at("a/b/file")).unwrap_err();
            assert_eq!(why, format!("{} belongs to user 65534", world.at(name).display()));
        }
        // The group of root is not a group of its own.
        let world = World::new();
        world.mode("a/b", 0o775);
        assert!(check(&world.at("a/b")).is_err());
    }

    #[test]
    fn links_and_their_targets_are_checked() {
        let world = World::new();
        symlink(world.at("a/b"), world.at("link")).unwrap();
        assert_eq!(check(&world.at("link/file")), Ok(()));
        world.mode("a", 0o777);
        assert!(check(&world.at("link/file")).is_err());
        if rustix::process::geteuid().is_root() {
            let world = World::new();
            symlink(world.at("a/b"), world.at("link")).unwrap();
            std::os::unix::fs::lchown(world.at("link"), Some(65534), None).unwrap();
            assert!(
                check(&world.at("link/file")).is_err_and(|why| why.contains("link belongs to user 65534"))
            );
        }
    }

    #[test]
    fn a_private_group_is_accepted() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must not skip it");
            eprintln!("SKIPPED: a_private_group_is_accepted needs root");
            return;
        }
        let world = World::new();
        world.mode("a", 0o775);
        let verdict = |gid: u32| {
            chown(world.at("a"), Some(1000), Some(gid)).unwrap();
            judge(&fs::metadata(world.at("a")).unwrap(), 1000, true)
        };
        assert!(verdict(1000).is_ok() && verdict(100).is_err() && verdict(0).is_err());
    }
}
