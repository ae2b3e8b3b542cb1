//! Decodes BPF instructions, as far as needed to follow values through them.

// Instruction classes and operations: Documentation/bpf/standardization in the kernel's sources.
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const ALU: u8 = 4;
const JMP: u8 = 5;
const JMP32: u8 = 6;
const ALU64: u8 = 7;
const LD_IMM64: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LONG_JUMP: u8 = 0x06;
const ATOMIC: u8 = 0xc0;

/// The frame pointer. It points to the end of the stack frame.
pub const FRAME: u8 = 10;

/// An instruction of 8 bytes.
#[derive(Clone, Copy)]
pub struct Instruction {
    opcode: u8,
    pub dst: u8,
    pub src: u8,
    pub offset: i16,
    pub imm: i32,
}

/// The effect of an instruction on registers and stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Loads a 64-bit constant, or an address if there is a relocation. The instruction takes two slots.
    Wide,
    /// Register and constant, or register and register: moves, additions, subtractions.
    Move {
        wide: bool,
        register: bool,
    },
    Add {
        wide: bool,
        register: bool,
    },
    Subtract {
        wide: bool,
        register: bool,
    },
    /// Changes `dst` in another way.
    Compute,
    /// Loads into `dst` from `src + offset`.
    Load {
        bytes: u8,
    },
    /// Stores to `dst + offset`: a register, or a constant.
    Store {
        bytes: u8,
        register: bool,
    },
    Atomic,
    /// Loads from a packet by one of the legacy instructions.
    Packet,
    Helper(i32),
    Function,
    Kfunc,
    /// A conditional or unconditional jump.
    Jump {
        always: bool,
    },
    Exit,
    Nothing,
}

impl Instruction {
    pub fn decode(bytes: &[u8]) -> Instruction {
        let (low, high) = (bytes[1] & 15, bytes[1] >> 4);
        let (dst, src) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
        let imm = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Instruction { opcode: bytes[0], dst, src, offset, imm }
    }

    pub fn effect(&self) -> Effect {
        let (class, register) = (self.opcode & 7, self.opcode & 8 != 0);
        let wide = class == ALU64;
        match (class, self.opcode & 0xf0) {
            _ if self.opcode == LD_IMM64 => Effect::Wide,
            // The second slot of a wide instruction has opcode 0.
            (0, 0) => Effect::Nothing,
            (0, _) => Effect::Packet,
            (ALU | ALU64, 0xb0) if self.offset == 0 => Effect::Move { wide, register },
            (ALU | ALU64, 0x00) => Effect::Add { wide, register },
            (ALU | ALU64, 0x10) => Effect::Subtract { wide, register },
            (ALU | ALU64, _) => Effect::Compute,
            (LDX, _) => Effect::Load { bytes: self.bytes() },
            (STX, _) if self.opcode & 0xe0 == ATOMIC => Effect::Atomic,
            (ST | STX, _) => Effect::Store { bytes: self.bytes(), register: class == STX },
            _ if self.opcode == CALL => match self.src {
                0 => Effect::Helper(self.imm),
                1 => Effect::Function,
                _ => Effect::Kfunc,
            },
            _ if self.opcode == EXIT => Effect::Exit,
            (JMP | JMP32, operation) => Effect::Jump { always: operation == 0 },
            _ => Effect::Compute,
        }
    }

    fn bytes(&self) -> u8 {
        [4, 2, 1, 8][usize::from(self.opcode >> 3 & 3)]
    }

    /// The distance of a jump in instructions, counted from the next one.
    pub fn distance(&self) -> i64 {
        // The long jump stores its distance in the other field.
        if self.opcode == LONG_JUMP { self.imm.into() } else { self.offset.into() }
    }
}
