//! Which map gets events of which size, as the compiled code shows it.
//!
//! The arguments of a helper call are mostly constants: the map's address and the size of the struct. They are
//! followed through each straight run of instructions; what comes from elsewhere stays unknown.

use std::collections::{HashMap, HashSet};

use crate::elf::Code;

const PERF_EVENT_OUTPUT: i32 = 25;
const SKB_OUTPUT: i32 = 111;
const XDP_OUTPUT: i32 = 121;
const RINGBUF_OUTPUT: i32 = 130;
const RINGBUF_RESERVE: i32 = 131;
const RINGBUF_RESERVE_DYNPTR: i32 = 198;

/// Events that the program sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The map, where the code names it at the call.
    pub map: Option<String>,
    /// The size of the event, where it is a constant.
    pub size: Option<u32>,
}

#[derive(Clone, PartialEq, Eq)]
enum Value {
    Number(u32),
    Address(String),
}

/// An instruction of 8 bytes.
struct Instruction {
    opcode: u8,
    dst: u8,
    src: u8,
    offset: i16,
    imm: i32,
}

/// All events that the code sends.
pub fn flows(sections: &[Code]) -> Vec<Flow> {
    let mut flows = Vec::new();
    for code in sections {
        let instructions: Vec<_> = code.instructions.chunks_exact(8).map(Instruction::decode).collect();
        for flow in in_section(&instructions, &code.references) {
            if !flows.contains(&flow) {
                flows.push(flow);
            }
        }
    }
    flows
}

fn in_section(instructions: &[Instruction], references: &HashMap<u64, String>) -> Vec<Flow> {
    let targets: HashSet<i64> = (0i64..).zip(instructions).filter_map(|(at, i)| i.jump_target(at)).collect();
    let mut registers: HashMap<u8, Value> = HashMap::new();
    let mut flows = Vec::new();
    for (at, instruction) in (0i64..).zip(instructions) {
        if targets.contains(&at) {
            registers.clear();
        }
        if let Some((map, size)) = instruction.event_arguments() {
            let map = match registers.get(&map) {
                Some(Value::Address(name)) => Some(name.clone()),
                _ => None,
            };
            let size = match registers.get(&size) {
                Some(Value::Number(size)) => Some(*size),
                _ => None,
            };
            flows.push(Flow { map, size });
        }
        instruction.apply(&mut registers, references.get(&(at as u64 * 8)));
    }
    flows
}

impl Instruction {
    fn decode(bytes: &[u8]) -> Instruction {
        let (low, high) = (bytes[1] & 15, bytes[1] >> 4);
        let (dst, src) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
        let imm = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Instruction { opcode: bytes[0], dst, src, offset, imm }
    }

    /// The registers that hold map and size, if this is a call that sends an event.
    fn event_arguments(&self) -> Option<(u8, u8)> {
        match (self.opcode, self.src, self.imm) {
            (0x85, 0, PERF_EVENT_OUTPUT | SKB_OUTPUT | XDP_OUTPUT) => Some((2, 5)),
            (0x85, 0, RINGBUF_OUTPUT) => Some((1, 3)),
            (0x85, 0, RINGBUF_RESERVE | RINGBUF_RESERVE_DYNPTR) => Some((1, 2)),
            _ => None,
        }
    }

    fn jump_target(&self, at: i64) -> Option<i64> {
        let class = self.opcode & 7;
        let jumps = matches!(class, 5 | 6) && !matches!(self.opcode, 0x85 | 0x95);
        // The long jump keeps its distance in the other field.
        let distance: i64 = if self.opcode == 0x06 { self.imm.into() } else { self.offset.into() };
        jumps.then_some(at + 1 + distance)
    }

    /// What the registers hold after this instruction.
    fn apply(&self, registers: &mut HashMap<u8, Value>, reference: Option<&String>) {
        let value = match self.opcode {
            // ld_imm64
            0x18 => match reference {
                Some(name) => Some(Value::Address(name.clone())),
                None => Some(Value::Number(self.imm as u32)),
            },
            // mov with a constant, 64 and 32 bits
            0xb7 | 0xb4 => Some(Value::Number(self.imm as u32)),
            0xbf | 0xbc => registers.get(&self.src).cloned(),
            0x85 => {
                (0..=5).for_each(|register| drop(registers.remove(&register)));
                return;
            }
            _ => None,
        };
        // Classes that write no register: stores and jumps. The second half of ld_imm64 has opcode 0.
        let writes = matches!(self.opcode & 7, 0 | 1 | 4 | 7) && self.opcode != 0;
        if self.opcode & 7 == 3 {
            // An atomic operation may fetch into its source, or into r0.
            registers.remove(&self.src);
            registers.remove(&0);
        } else if writes {
            match value {
                Some(value) => registers.insert(self.dst, value),
                None => registers.remove(&self.dst),
            };
        }
    }
}
