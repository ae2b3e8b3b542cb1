//! Opens files for the events of tasks, and renames them when they are full. The server cannot do this, because it has access only
//! to its state.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use eunomia::Status;
use rustix::fs::{
    FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, flock, fstat, open, openat, openat2,
    renameat_with, unlinkat,
};

use super::protocol::Failure;
use crate::sink::is_plain;

type Result<T> = std::result::Result<T, Failure>;

/// Opens a file beneath one of the directories, or creates it. If `rotate` is given, an existing file is first renamed
/// to `PATH.1`, and `rotate` earlier files are kept.
pub fn open_beneath(path: &Path, folders: &[PathBuf], rotate: Option<u64>) -> Result<OwnedFd> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(Status::System, format_args!("the file {path:?} cannot be opened: {why}"))
    };
    let outside = || {
        let hint = "choose another file, or add its directory to sink_folders of the policy";
        let text = format!("the file {path:?} is in none of the directories {folders:?}");
        Failure::refused("sink_folders", text, hint)
    };
    if !is_plain(path) {
        return Err(failed(&"expected an absolute path of a file without .."));
    }
    let (folder, below) = folders
        .iter()
        .find_map(|folder| Some((folder, path.strip_prefix(folder).ok()?)))
        .filter(|(_, below)| below.file_name().is_some())
        .ok_or_else(outside)?;
    let parent = parent(folder, below).map_err(|error| failed(&error))?;
    let Some(name) = below.file_name() else { return Err(outside()) };
    if let Some(keep) = rotate {
        shift(&parent, name.into(), keep).map_err(|error| failed(&error))?;
    }
    let flags = OFlags::RDWR
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let file =
        openat(&parent, name, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP).map_err(|error| failed(&error))?;
    let about = fstat(&file).map_err(|error| failed(&error))?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile || about.st_nlink != 1 {
        return Err(failed(&"it is not a regular file, or it has several hard links"));
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| failed(&"another task writes it"))?;
    Ok(file)
}

/// Opens the directory of a file beneath `folder`. A symbolic link below `folder` is an error.
fn parent(folder: &Path, below: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(folder, flags, Mode::empty())?;
    match below.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        None => Ok(folder),
        Some(parent) => {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            openat2(&folder, parent, flags, Mode::empty(), resolve)
        }
    }
}

/// Renames a file to `NAME.1`, the previous `NAME.1` to `NAME.2`, and so on. Removes the oldest one.
fn shift(parent: &OwnedFd, name: OsString, keep: u64) -> rustix::io::Result<()> {
    let numbered = |number: u64| match number {
        0 => name.clone(),
        _ => {
            let mut name = name.clone();
            name.push(format!(".{number}"));
            name
        }
    };
    let ignore_missing = |result| match result {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        other => other,
    };
    ignore_missing(unlinkat(parent, numbered(keep), rustix::fs::AtFlags::empty()))?;
    for number in (0..keep).rev() {
        let (from, to) = (numbered(number), numbered(number + 1));
        ignore_missing(renameat_with(parent, from, parent, to, RenameFlags::empty()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_opened_beneath_an_allowed_directory_only() {
        let all = tempfile::tempdir().unwrap();
        let (allowed, other) = (all.path().join("allowed"), all.path().join("other"));
        fs::create_dir_all(allowed.join("sub")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "").unwrap();
        fs::write(other.join("plain"), "").unwrap();
        let folders = [allowed.clone()];
        let open = |path: PathBuf| open_beneath(&path, &folders, None).map(drop).map_err(|why| why.message);
        assert_eq!(open(allowed.join("a")), Ok(()));
        assert_eq!(open(allowed.join("sub/a")), Ok(()));
        for path in [other.join("file"), all.path().join("allowed2"), allowed.clone()] {
            assert!(
                open(path.clone()).unwrap_err().starts_with("refused by rule sink_folders of the policy"),
                "{path:?}"
            );
        }
        std::os::unix::fs::symlink(&other, allowed.join("link")).unwrap();
        std::os::unix::fs::symlink(other.join("file"), allowed.join("file")).unwrap();
        fs::hard_link(other.join("file"), allowed.join("hard")).unwrap();
        for path in ["link/plain", "link/new", "file", "hard", "sub", "sub/../a", "none/a"] {
            let why = open(allowed.join(path)).unwrap_err();
            assert!(why.contains("cannot be opened"), "{path}: {why}");
        }
        let held = open_beneath(&allowed.join("a"), &folders, None).unwrap();
        assert!(open(allowed.join("a")).unwrap_err().ends_with("another task writes it"));
        drop(held);
        assert_eq!(open(allowed.join("a")), Ok(()));
    }

    #[test]
    fn full_files_are_renamed_and_the_oldest_one_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, folders) = (folder.path().join("log"), [folder.path().to_owned()]);
        for number in 0..5 {
            let file = open_beneath(&path, &folders, Some(2)).unwrap();
            File::from(file).write_all(format!("{number}").as_bytes()).unwrap();
        }
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        let found = ["log", "log.1", "log.2", "log.3"].map(&text);
        assert_eq!(found, [Some("4".into()), Some("3".into()), Some("2".into()), None]);
        open_beneath(&path, &folders, Some(0)).unwrap();
        assert_eq!(text("log").as_deref(), Some(""));
    }
}
