//! One instruction (`struct bpf_insn` of linux/bpf.h).

/// Bytes of an instruction; one that loads 64 bits takes two.
pub const BYTES: usize = 8;

/// Operation codes.
pub(crate) const CALL: u8 = 0x85;
/// A call of the function whose address is in a register.
pub(crate) const CALL_REGISTER: u8 = 0x8d;
pub(crate) const EXIT: u8 = 0x95;
pub(crate) const LOAD_64: u8 = 0x18;
/// A jump to the address in a register.
pub(crate) const JUMP_REGISTER: u8 = 0x0d;

/// What the source register of a call says of its number.
pub(crate) const HELPER: u8 = 0;
pub(crate) const PSEUDO_CALL: u8 = 1;
pub(crate) const PSEUDO_KFUNC: u8 = 2;

/// What the source register of `LOAD_64` says of its number.
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

    /// Places that it takes.
    pub(crate) fn width(self) -> usize {
        if self.code == LOAD_64 { 2 } else { 1 }
    }

    /// Instructions from this one to the one that a jump leads to.
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

    /// Whether the next instruction can follow it.
    pub(crate) fn goes_on(self) -> bool {
        !matches!(self.code, EXIT | JUMP_REGISTER | 0x05 | 0x06)
    }
}
