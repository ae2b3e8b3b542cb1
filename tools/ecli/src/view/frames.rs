//! Sampled maps on a terminal: each round replaces the previous one.

use std::ffi::CStr;
use std::io::Write;

/// The maps on the screen.
#[derive(Default)]
pub struct Frames {
    frames: Vec<Frame>,
    /// Rows of the screen in use.
    rows: usize,
}

struct Frame {
    source: Box<[u8]>,
    next: Vec<u8>,
    shown: Vec<u8>,
}

impl Frames {
    /// Adds an entry to the next round.
    pub fn add(&mut self, source: &[u8], entry: &[u8]) {
        let next = &mut self.frame(source).next;
        next.extend_from_slice(entry);
        next.push(b'\n');
    }

    fn frame(&mut self, source: &[u8]) -> &mut Frame {
        let known = self.frames.iter().position(|frame| &*frame.source == source);
        let index = known.unwrap_or_else(|| {
            self.frames.push(Frame { source: source.into(), next: Vec::new(), shown: Vec::new() });
            self.frames.len() - 1
        });
        &mut self.frames[index]
    }

    /// Redraws everything after the round of `source` is complete. If the screen is too small, it shows the last rows.
    pub fn draw(&mut self, source: &CStr, time: &str, size: Option<(usize, usize)>, out: &mut Vec<u8>) {
        let frame = self.frame(source.to_bytes());
        frame.shown = std::mem::take(&mut frame.next);
        let (width, height) = size.unwrap_or((80, 24));
        // Writing to a vector cannot fail.
        let _ = match self.rows {
            0 => Ok(()),
            rows if rows < height => write!(out, "\x1b[{rows}A\r\x1b[J"),
            _ => write!(out, "\x1b[H\x1b[2J"),
        };
        let start = out.len();
        for frame in &self.frames {
            let _ = writeln!(out, "{time}  {}", String::from_utf8_lossy(&frame.source));
            out.extend_from_slice(&frame.shown);
        }
        let lines = String::from_utf8_lossy(&out[start..])
            .lines()
            .map(|line| line.chars().count().div_ceil(width).max(1))
            .sum();
        self.rows = lines;
    }
}
