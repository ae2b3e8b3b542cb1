//! The functions of C's library that WAMR has too, but would do to the host: print, and exit.

use super::imports::Entry;
use super::run::{End, Run, Stream};
use super::sys::instance::Guest;

/// Longest text that is printed at once.
const TEXT: usize = 1 << 20;

/// EOF, as C functions answer a failure.
const EOF: u64 = -1_i32 as u32 as u64;

pub(super) const IMPORTS: [Entry; 6] = [
    (c"printf", c"(ii)i", printf),
    (c"vprintf", c"(ii)i", printf),
    (c"puts", c"(i)i", puts),
    (c"putchar", c"(i)i", putchar),
    (c"exit", c"(i)", exit),
    (c"abort", c"()", abort),
];

/// Variadic arguments come as a pointer to where they lie, as a `va_list` does.
fn printf(run: &Run<'_>, guest: Guest<'_>, args: &[u64]) -> Option<u64> {
    let Some(format) = guest.read_text(args[0] as u32, TEXT) else { return Some(EOF) };
    let Some(text) = guest.format(format, args[1] as u32) else { return Some(EOF) };
    run.print(Stream::Out, &text)?;
    Some(text.len() as u64)
}

fn puts(run: &Run<'_>, guest: Guest<'_>, args: &[u64]) -> Option<u64> {
    let Some(mut text) = guest.read_text(args[0] as u32, TEXT) else { return Some(EOF) };
    text.push(b'\n');
    run.print(Stream::Out, &text)?;
    Some(text.len() as u64)
}

fn putchar(run: &Run<'_>, _guest: Guest<'_>, args: &[u64]) -> Option<u64> {
    let byte = args[0] as u8;
    run.print(Stream::Out, &[byte])?;
    Some(byte.into())
}

fn exit(run: &Run<'_>, _guest: Guest<'_>, args: &[u64]) -> Option<u64> {
    run.ends(End::Exit(args[0] as i32))
}

/// As the shell reports SIGABRT.
fn abort(run: &Run<'_>, _guest: Guest<'_>, _args: &[u64]) -> Option<u64> {
    run.ends(End::Exit(134))
}
