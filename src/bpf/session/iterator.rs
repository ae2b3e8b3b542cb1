//! Reads the output of iterator programs.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::Session;
use crate::bpf::constants::helper;
use crate::error::{Error, Result, Status};
use crate::os::{self, Errno};

impl Session {
    /// Opens the output of an attached iterator. The flag is true if the output is text.
    pub fn open_iterator(&self, name: &str) -> Result<(File, bool)> {
        let index = self.prog_index(name)?;
        let section = self.progs[index].section.to_string_lossy();
        if !section.starts_with("iter") {
            return Err(Error::new(Status::Inval, "not an iterator").about_program(name, &section));
        }
        let link = self.progs[index]
            .links
            .first()
            .ok_or_else(|| Error::new(Status::State, format_args!("iterator {name:?} is not attached")))?;
        let failed = |e: Errno| Error::sys(Status::System, e.0, format_args!("iterator {name:?}: {e}"));
        let raw = self.opened.object.prog(index);
        let binary = raw.calls_helper(helper::SEQ_WRITE) && !raw.calls_helper(helper::SEQ_PRINTF);
        Ok((File::from(link.open_iterator().map_err(failed)?), !binary))
    }
}

/// Reads an iterator to its end and passes the output to `f`: line by line if it is text, otherwise as the kernel returns it.
pub fn read_iterator(file: File, text: bool, mut f: impl FnMut(&[u8]) -> bool) -> os::Result<()> {
    const CHUNK: usize = 64 << 10;
    let mut chunk = vec![0; CHUNK];
    let mut line = Vec::new();
    loop {
        let len = match os::read(file.as_raw_fd(), &mut chunk) {
            Ok(0) => break,
            Ok(len) => len,
            Err(e) if e.0 == libc::EINTR => continue,
            Err(e) => return Err(e),
        };
        if !text {
            if !f(&chunk[..len]) {
                return Ok(());
            }
            continue;
        }
        for piece in chunk[..len].split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if line.last() != Some(&b'\n') {
                continue;
            }
            line.pop();
            if !f(&std::mem::take(&mut line)) {
                return Ok(());
            }
        }
    }
    if !line.is_empty() {
        f(&line);
    }
    Ok(())
}
