//! A static probe of the test's own executable.

/// The probe `eunomia:beat` in the format of <sys/sdt.h>: a `nop`, and a note with its address and its argument.
#[inline(never)]
pub fn beat(number: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a `nop`; the rest goes to sections without code.
    unsafe {
        std::arch::asm!(
            "990: nop",
            ".pushsection .note.stapsdt,\"\",\"note\"",
            ".balign 4",
            ".4byte 992f-991f, 994f-993f, 3",
            "991: .asciz \"stapsdt\"",
            "992: .balign 4",
            "993: .8byte 990b",
            ".8byte _.stapsdt.base",
            ".8byte 0",
            ".asciz \"eunomia\"",
            ".asciz \"beat\"",
            ".asciz \"8@%rdi\"",
            "994: .balign 4",
            ".popsection",
            ".ifndef _.stapsdt.base",
            ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat",
            ".weak _.stapsdt.base",
            ".hidden _.stapsdt.base",
            "_.stapsdt.base: .space 1",
            ".size _.stapsdt.base, 1",
            ".popsection",
            ".endif",
            in("rdi") number,
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = number;
}
