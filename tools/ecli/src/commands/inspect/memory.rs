//! The linear memory of a WASM module, as its data segments initialize it.

use std::collections::BTreeMap;

/// Tools omit zeros between segments up to this many bytes.
const MAX_GAP: u64 = 1 << 16;
/// Limit on the zeros that are filled in.
const MAX_GAPS: u64 = 16 << 20;

/// The initialized memory: data by address.
#[derive(Default)]
pub struct Memory<'a> {
    pieces: BTreeMap<u64, &'a [u8]>,
}

impl<'a> Memory<'a> {
    /// Writes data, replacing earlier data.
    pub fn write(&mut self, at: u64, data: &'a [u8]) {
        let end = at.saturating_add(data.len() as u64);
        let before = self.pieces.range(..at).next_back().map(|(start, piece)| (*start, *piece));
        if let Some((start, piece)) = before {
            let (kept, rest) = piece.split_at(piece.len().min((at - start) as usize));
            self.pieces.insert(start, kept);
            if start + piece.len() as u64 > end {
                self.pieces.insert(end, &rest[data.len()..]);
            }
        }
        while let Some((start, piece)) =
            self.pieces.range(at..end).next().map(|(start, piece)| (*start, *piece))
        {
            self.pieces.remove(&start);
            if start + piece.len() as u64 > end {
                self.pieces.insert(end, &piece[(end - start) as usize..]);
            }
        }
        if !data.is_empty() {
            self.pieces.insert(at, data);
        }
    }

    /// The contiguous parts, with short gaps filled with zeros.
    pub fn runs(&self) -> Vec<Vec<u8>> {
        let (mut runs, mut end, mut left) = (Vec::<Vec<u8>>::new(), 0, MAX_GAPS);
        for (at, piece) in &self.pieces {
            let gap = at - end;
            match runs.last_mut() {
                Some(run) if gap <= MAX_GAP.min(left) => {
                    left -= gap;
                    run.resize(run.len() + gap as usize, 0);
                    run.extend_from_slice(piece);
                }
                _ => runs.push(piece.to_vec()),
            }
            end = at + piece.len() as u64;
        }
        runs
    }
}
