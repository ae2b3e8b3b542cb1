//! The heap behind `malloc`, for guests that have no `malloc` of their own.
//!
//! The list of blocks is in the host's memory. WAMR's heap keeps its list in the guest's memory: a guest that changes a
//! few bytes there makes it write to memory of the host.

/// A heap: all blocks, sorted by address.
pub struct Heap(Vec<Block>);

struct Block {
    at: u32,
    len: u32,
    is_used: bool,
}

/// Addresses and sizes of blocks are multiples of this.
const UNIT: u32 = 16;

impl Heap {
    /// Returns a heap of `len` bytes of the guest's memory from the address `at` on.
    pub fn new(at: u32, len: u32) -> Heap {
        let skipped = at.next_multiple_of(UNIT) - at;
        let len = len.saturating_sub(skipped) / UNIT * UNIT;
        Heap(vec![Block { at: at + skipped, len, is_used: false }])
    }

    /// Allocates the first free block that is large enough.
    pub fn allocate(&mut self, len: u32) -> Option<u32> {
        let len = len.max(1).checked_next_multiple_of(UNIT)?;
        let index = self.0.iter().position(|block| !block.is_used && block.len >= len)?;
        let block = &mut self.0[index];
        let (at, rest) = (block.at, block.len - len);
        (block.len, block.is_used) = (len, true);
        if rest > 0 {
            self.0.insert(index + 1, Block { at: at + len, len: rest, is_used: false });
        }
        Some(at)
    }

    /// Returns the size of an allocated block.
    pub fn len(&self, at: u32) -> Option<u32> {
        self.find(at).map(|index| self.0[index].len)
    }

    /// Frees a block. Does nothing if no block is allocated at this address.
    pub fn free(&mut self, at: u32) {
        let Some(index) = self.find(at) else { return };
        self.0[index].is_used = false;
        self.join(index);
        if let Some(before) = index.checked_sub(1) {
            self.join(before);
        }
    }

    fn find(&self, at: u32) -> Option<usize> {
        let found = self.0.binary_search_by_key(&at, |block| block.at).ok();
        found.filter(|&index| self.0[index].is_used)
    }

    /// Joins a block and the next one, if both are free.
    fn join(&mut self, index: usize) {
        match &mut self.0[index..] {
            [first, second, ..] if !first.is_used && !second.is_used => {
                first.len += second.len;
                self.0.remove(index + 1);
            }
            _ => {}
        }
    }
}
