//! Builds instructions, and reads the types of the running kernel.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod objects;
pub mod types;

use eunomia_effects::{Code, Loaded};

/// An instruction.
pub const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> [u8; 8] {
    let (off, imm) = (off.to_ne_bytes(), imm.to_ne_bytes());
    [code, dst | src << 4, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
}

/// `r0 = r7 & 255`, an unknown value.
pub const RESULT_IN_REGISTER: [u8; 8] = insn(0x79, 0, 10, -8, 0);

/// `call` of a helper.
pub const fn call(helper: u32) -> [u8; 8] {
    insn(0x85, 0, 0, 0, helper as i32)
}

/// `exit`.
pub const fn exit() -> [u8; 8] {
    insn(0x95, 0, 0, 0, 0)
}

/// `dst = imm`.
pub const fn set(dst: u8, imm: i32) -> [u8; 8] {
    insn(0xb7, dst, 0, 0, imm)
}

/// `dst = src`.
pub const fn copy(dst: u8, src: u8) -> [u8; 8] {
    insn(0xbf, dst, src, 0, 0)
}

/// `*(u64 *)(dst + off) = src`.
pub const fn store(dst: u8, off: i16, src: u8) -> [u8; 8] {
    insn(0x7b, dst, src, off, 0)
}

/// `dst = *(u64 *)(src + off)`.
pub const fn load(dst: u8, src: u8, off: i16) -> [u8; 8] {
    insn(0x79, dst, src, off, 0)
}

/// A call of the function that begins `ahead` instructions after the next one.
pub const fn call_function(ahead: i32) -> [u8; 8] {
    insn(0x85, 0, 1, 0, ahead)
}

/// The code of a program without maps whose kernel functions are all called `kfunc`.
pub fn code(instructions: &[[u8; 8]]) -> Code {
    Code::of_loaded(instructions, &Loaded { map: &|_| None, kfunc: &|_| None })
}

/// A program that calls a function of the kernel.
pub fn kfunc(name: &str) -> Code {
    let instructions = [insn(0x85, 0, 2, 0, 1), exit()];
    Code::of_loaded(&instructions, &Loaded { map: &|_| None, kfunc: &|_| Some(name.to_owned()) })
}
