//! Splits what a guest prints into lines.

use std::cell::RefCell;

/// Maximum length of a line. A longer line is delivered in pieces.
const MAX_LINE: usize = 64 << 10;

/// Bytes that were printed since the last line feed.
#[derive(Default)]
pub struct LineBuffer(RefCell<Vec<u8>>);

impl LineBuffer {
    /// Takes bytes from the front of `bytes`, up to the end of the line. Returns the line if it is complete, without its
    /// line feed.
    pub fn push(&self, bytes: &mut &[u8]) -> Option<Vec<u8>> {
        let mut line = self.0.borrow_mut();
        let capacity = MAX_LINE - line.len();
        let end = bytes.iter().take(capacity).position(|&byte| byte == b'\n');
        let (taken, rest) = bytes.split_at(end.map_or(bytes.len().min(capacity), |end| end + 1));
        *bytes = rest;
        line.extend_from_slice(taken);
        if end.is_none() && line.len() < MAX_LINE {
            return None;
        }
        if end.is_some() {
            line.pop();
        }
        Some(std::mem::take(&mut *line))
    }

    /// Returns the bytes of the incomplete line.
    pub fn take(&self) -> Vec<u8> {
        self.0.take()
    }
}
