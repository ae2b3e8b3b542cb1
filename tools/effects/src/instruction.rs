//! One instruction (`struct bpf_insn` of linux/bpf.h).

/// The size of an instruction. A 64-bit load has two of them.
pub const BYTES: usize = 8;

/// Operation codes.
pub(crate) const CALL: u8 = 0x85;
/// A call of the address in a register.
pub(crate) const CALL_REGISTER: u8 = 0x8d;
pub(crate) const EXIT: u8 = 0x95;
pub(crate) const LOAD_64: u8 = 0x18;
/// A jump to the address in a register.
pub(crate) const JUMP_REGISTER: u8 = 0x0d;

/// Values of the source register of a call: the meaning of its number.
pub(crate) const HELPER: u8 = 0;
pub(crate) const PSEUDO_CALL: u8 = 1;
pub(crate) const PSEUDO_KFUNC: u8 = 2;

/// Values of the source register of `LOAD_64`: the meaning of its number.
pub(crate) const MAP: u8 = 1;
pub(crate) const MAP_VALUE: u8 = 2;
pub(crate) const BTF_ID: u8 = 3;
pub(crate) const FUNCTION: u8 = 4;
pub(crate) const MAP_BY_INDEX: u8 = 5;
pub(crate) const MAP_VALUE_BY_INDEX: u8 = 6;

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Offset.
    pub off: i16,
    /// Constant.
    pub imm: i32,
}

impl Instruction {
    /// Reads an instruction in this machine's byte order.
    pub fn new(bytes: [u8; BYTES]) -> Instruction {
        let [code, registers, off @ .., _, _, _, _] = bytes;
        let [_, _, _, _, imm @ ..] = bytes;
        let (low, high) = (registers & 15, registers >> 4);
        let (dst, src) = if cfg!(target_endian = "big") { (high, low) } else { (low, high) };
        Instruction { code, dst, src, off: i16::from_ne_bytes(off), imm: i32::from_ne_bytes(imm) }
    }

    /// Its class, such as `BPF_STX`.
    pub(crate) fn class(self) -> u8 {
        self.code & 7
    }

    /// The number of slots of 8 bytes.
    pub(crate) fn width(self) -> usize {
        if self.code == LOAD_64 { 2 } else { 1 }
    }

    /// The distance from this instruction to its jump target.
    pub(crate) fn jump(self) -> Option<i64> {
        const JUMP: u8 = 0x05;
        const JUMP_32: u8 = 0x06;
        match (self.class(), self.code) {
            (_, CALL | CALL_REGISTER | EXIT | JUMP_REGISTER) => None,
            (JUMP_32, 0x06) => Some(i64::from(self.imm) + 1),
            (JUMP | JUMP_32, _) => Some(i64::from(self.off) + 1),
            _ => None,
        }
    }

    /// Whether execution can continue with the next instruction.
    pub(crate) fn falls_through(self) -> bool {
        !matches!(self.code, EXIT | JUMP_REGISTER | 0x05 | 0x06)
    }
}
