//! The part of C's library that guests can import from `env`, for modules that are linked without one. WAMR brings such
//! functions too, but they print to the host's stdout, and trust a guest's numbers: `isalpha` and `strtol` reach beyond
//! its memory, and so does `strdup` with a `malloc` of the guest's.
//!
//! A pointer to what is not in the guest's memory is a trap here, as it would be in the guest; what prints answers EOF.

pub(super) mod heap;
mod printf;

use std::cmp::Ordering;

use crate::os;
use crate::wasm::imports::{Args, Call, Table, table};
use crate::wasm::run::{End, Run, Stream};
use crate::wasm::sys::instance::Guest;
use crate::wasm::wasi::clock;

/// Longest text that `puts` prints.
const TEXT: usize = 1 << 20;

/// EOF, as C functions answer a failure.
const EOF: u64 = -1_i32 as u32 as u64;

/// Room without an end.
const ANY: usize = usize::MAX;

pub(super) const IMPORTS: Table = table![
    ("__cxa_allocate_exception(i)i", malloc),
    ("__cxa_begin_catch(i)", |_, _, _| Some(0)),
    ("__cxa_throw(iii)", |_, guest, _| guest.raise(c"exception thrown by stdc++")),
    ("_strdup(i)i", strdup),
    ("abort()", abort),
    ("abortStackOverflow(i)", |_, guest, _| guest.raise(c"env.abortStackOverflow")),
    ("atoi(i)i", |_, guest, args| Some(parse(&text(guest, args[0])?, 10).0 as u32 as u64)),
    ("calloc(ii)i", calloc),
    ("clock()I", |_, _, _| clock(1).ok()),
    ("clock_gettime(ii)i", clock_gettime),
    ("emscripten_memcpy_big(iii)i", memmove),
    ("exit(i)", exit),
    ("free(i)", |run, _, args| {
        run.heap_free(args[0] as u32);
        Some(0)
    }),
    ("isalnum(i)i", |_, _, args| class(args, |c| c.is_ascii_alphanumeric())),
    ("isalpha(i)i", |_, _, args| class(args, |c| c.is_ascii_alphabetic())),
    ("isdigit(i)i", |_, _, args| class(args, |c| c.is_ascii_digit())),
    ("isgraph(i)i", |_, _, args| class(args, |c| c.is_ascii_graphic())),
    ("isprint(i)i", |_, _, args| class(args, |c| c == b' ' || c.is_ascii_graphic())),
    ("isspace(i)i", |_, _, args| class(args, is_space)),
    ("isupper(i)i", |_, _, args| class(args, |c| c.is_ascii_uppercase())),
    ("isxdigit(i)i", |_, _, args| class(args, |c| c.is_ascii_hexdigit())),
    ("malloc(i)i", malloc),
    ("memchr(iii)i", memchr),
    ("memcmp(iii)i", memcmp),
    ("memcpy(iii)i", memmove),
    ("memmove(iii)i", memmove),
    ("memset(iii)i", memset),
    ("nullFunc_X(i)", |_, guest, _| guest.raise(c"env.nullFunc_X")),
    ("printf(ii)i", printf),
    ("putchar(i)i", putchar),
    ("puts(i)i", puts),
    ("realloc(ii)i", realloc),
    ("snprintf(iiii)i", |_, guest, args| print_to(guest, args[0], args[1] as u32, [args[2], args[3]])),
    ("sprintf(iii)i", |_, guest, args| print_to(guest, args[0], u32::MAX, [args[1], args[2]])),
    ("strchr(ii)i", strchr),
    ("strcmp(ii)i", |_, guest, args| compare(guest, args, ANY, false)),
    ("strcpy(ii)i", strcpy),
    ("strcspn(ii)i", |_, guest, args| span(guest, args, false)),
    ("strdup(i)i", strdup),
    ("strlen(i)i", |_, guest, args| Some(text(guest, args[0])?.len() as u64)),
    ("strncasecmp(iii)i", |_, guest, args| compare(guest, args, args[2] as u32 as usize, true)),
    ("strncmp(iii)i", |_, guest, args| compare(guest, args, args[2] as u32 as usize, false)),
    ("strncpy(iii)i", strncpy),
    ("strspn(ii)i", |_, guest, args| span(guest, args, true)),
    ("strstr(ii)i", strstr),
    ("strtol(iii)i", |_, guest, args| {
        let number = to_number(guest, args)?;
        Some(number.clamp(i32::MIN.into(), i32::MAX.into()) as u32 as u64)
    }),
    ("strtoul(iii)i", |_, guest, args| {
        let number = to_number(guest, args)?;
        let fits = number.unsigned_abs() <= u32::MAX.into();
        Some(if fits { number as u32 } else { u32::MAX }.into())
    }),
    ("tolower(i)i", |_, _, args| {
        Some(if class(args, |c| c.is_ascii_uppercase())? == 1 { args[0] | 32 } else { args[0] })
    }),
    ("toupper(i)i", |_, _, args| {
        Some(if class(args, |c| c.is_ascii_lowercase())? == 1 { args[0] & !32 } else { args[0] })
    }),
    ("vprintf(ii)i", printf),
    ("vsnprintf(iiii)i", |_, guest, args| print_to(guest, args[0], args[1] as u32, [args[2], args[3]])),
    ("vsprintf(iii)i", |_, guest, args| print_to(guest, args[0], u32::MAX, [args[1], args[2]])),
];

/// A text and its NUL.
fn text(guest: Guest<'_>, at: u64) -> Option<Vec<u8>> {
    guest.read_text(at as u32, ANY)
}

/// A text of at most `room` bytes, which needs no NUL if it has so many.
fn text_within(guest: Guest<'_>, at: u64, room: usize) -> Option<Vec<u8>> {
    let (at, len) = (at as u32, u32::try_from(room).unwrap_or(u32::MAX));
    guest.read_text(at, room).or_else(|| guest.read(at, len))
}

/// An address in the guest.
fn address(at: u64, offset: Option<usize>) -> Option<u64> {
    Some(offset.map_or(0, |offset| (at as u32).wrapping_add(offset as u32).into()))
}

/// Variadic arguments come as a pointer to where they lie, as a `va_list` does.
fn printf(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let Some(text) = printf::format(guest, args[0] as u32, args[1] as u32) else { return Some(EOF) };
    run.print(Stream::Out, &text)?;
    Some(text.len() as u64)
}

/// Writes a text to `at`, cut to `room` with its NUL, and answers how long it was.
fn print_to(guest: Guest<'_>, at: u64, room: u32, rest: [u64; 2]) -> Option<u64> {
    let mut text = printf::format(guest, rest[0] as u32, rest[1] as u32)?;
    let len = text.len() as u64;
    if let Some(most) = room.checked_sub(1) {
        text.truncate(most as usize);
        text.push(0);
        guest.write(at as u32, &text)?;
    }
    Some(len)
}

fn puts(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let Some(mut text) = text_within(guest, args[0], TEXT) else { return Some(EOF) };
    text.push(b'\n');
    run.print(Stream::Out, &text)?;
    Some(text.len() as u64)
}

fn putchar(run: &Run<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    let byte = args[0] as u8;
    run.print(Stream::Out, &[byte])?;
    Some(byte.into())
}

fn exit(run: &Run<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    run.ends(End::Exit(args[0] as i32))
}

/// As the shell reports SIGABRT.
fn abort(run: &Run<'_>, _guest: Guest<'_>, _args: &Args) -> Option<u64> {
    run.ends(End::Exit(134))
}

fn malloc(run: &Run<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    Some(run.heap_allocate(args[0] as u32).unwrap_or(0).into())
}

fn calloc(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let len = (args[0] as u32).checked_mul(args[1] as u32);
    let Some((len, at)) = len.and_then(|len| Some((len, run.heap_allocate(len)?))) else { return Some(0) };
    guest.write(at, &vec![0; len as usize])?;
    Some(at.into())
}

fn realloc(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (old, len) = (args[0] as u32, args[1] as u32);
    let had = run.heap_len(old);
    if had.is_none() && old != 0 {
        return Some(0);
    }
    let Some(new) = run.heap_allocate(len) else { return Some(0) };
    if let Some(had) = had {
        guest.write(new, &guest.read(old, had.min(len))?)?;
        run.heap_free(old);
    }
    Some(new.into())
}

fn strdup(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut text = text(guest, args[0])?;
    text.push(0);
    let Some(at) = run.heap_allocate(text.len() as u32) else { return Some(0) };
    guest.write(at, &text)?;
    Some(at.into())
}

fn memchr(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let bytes = guest.read(args[0] as u32, args[2] as u32)?;
    address(args[0], bytes.iter().position(|&byte| byte == args[1] as u8))
}

fn memcmp(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let [a, b] = [args[0], args[1]].map(|at| guest.read(at as u32, args[2] as u32));
    ordering(a?.cmp(&b?))
}

fn memmove(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    guest.write(args[0] as u32, &guest.read(args[1] as u32, args[2] as u32)?)?;
    address(args[0], Some(0))
}

fn memset(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (at, len) = (args[0] as u32, args[2] as u32);
    if !guest.has(at, len) {
        return None;
    }
    guest.write(at, &vec![args[1] as u8; len as usize])?;
    Some(at.into())
}

fn strchr(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut text = text(guest, args[0])?;
    text.push(0);
    address(args[0], text.iter().position(|&byte| byte == args[1] as u8))
}

fn strcpy(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut text = text(guest, args[1])?;
    text.push(0);
    guest.write(args[0] as u32, &text)?;
    address(args[0], Some(0))
}

fn strncpy(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (at, len) = (args[0] as u32, args[2] as u32);
    if !guest.has(at, len) {
        return None;
    }
    let mut text = text_within(guest, args[1], len as usize)?;
    text.resize(len as usize, 0);
    guest.write(at, &text)?;
    Some(at.into())
}

fn strstr(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    address(args[0], os::find(&text(guest, args[0])?, &text(guest, args[1])?))
}

/// How many bytes at the start of the first text are in the second one, or are not.
fn span(guest: Guest<'_>, args: &Args, is_in: bool) -> Option<u64> {
    let mut set = [false; 256];
    text(guest, args[1])?.iter().for_each(|&byte| set[usize::from(byte)] = true);
    let whole = text(guest, args[0])?;
    Some(whole.iter().take_while(|&&byte| set[usize::from(byte)] == is_in).count() as u64)
}

/// Compares two texts, of which only so many bytes count, with or without regard to case.
fn compare(guest: Guest<'_>, args: &Args, room: usize, any_case: bool) -> Option<u64> {
    let mut texts = [text_within(guest, args[0], room)?, text_within(guest, args[1], room)?];
    if any_case {
        texts.iter_mut().for_each(|text| text.make_ascii_lowercase());
    }
    ordering(texts[0].cmp(&texts[1]))
}

fn ordering(found: Ordering) -> Option<u64> {
    Some(found as i32 as u32 as u64)
}

/// Whether it is a character of that class; 1 or 0.
fn class(args: &Args, is_in: fn(u8) -> bool) -> Option<u64> {
    Some(u8::try_from(args[0] as u32).is_ok_and(is_in).into())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}

/// `strtol(text, end, base)`: the number, however large; where it ends is stored unless `end` is null.
fn to_number(guest: Guest<'_>, args: &Args) -> Option<i64> {
    let (number, len) = parse(&text(guest, args[0])?, args[2] as u32);
    if args[1] as u32 != 0 {
        let end = (args[0] as u32).wrapping_add(len as u32);
        guest.write(args[1] as u32, &end.to_le_bytes())?;
    }
    Some(number)
}

/// The number that a text begins with, and where it ends; 0 bytes if there is none. Base 0 takes `0x` and `0` as C does.
fn parse(text: &[u8], base: u32) -> (i64, usize) {
    let begins = |at: usize, with: &[u8]| {
        text[at..].iter().take(with.len()).map(u8::to_ascii_lowercase).eq(with.iter().copied())
    };
    let mut at = text.iter().take_while(|&&byte| is_space(byte)).count();
    let is_negative = begins(at, b"-");
    at += usize::from(is_negative || begins(at, b"+"));
    let is_hex = |at: usize| begins(at, b"0x") && text.get(at + 2).is_some_and(u8::is_ascii_hexdigit);
    let base = match base {
        0 | 16 if is_hex(at) => {
            at += 2;
            16
        }
        0 if begins(at, b"0") => 8,
        0 => 10,
        2..=36 => base,
        _ => return (0, 0),
    };
    let digits = text[at..].iter().map_while(|&byte| char::from(byte).to_digit(base));
    let (number, count) = digits.fold((0_i64, 0), |(number, count), digit| {
        (number.saturating_mul(base.into()).saturating_add(digit.into()), count + 1)
    });
    if count == 0 { (0, 0) } else { (if is_negative { -number } else { number }, at + count) }
}

/// `struct { i64 sec; i32 nsec; }`.
fn clock_gettime(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    let Ok(now) = clock(args[0]) else { return Some(EOF) };
    let (seconds, rest) = (now / SECOND, (now % SECOND) as u32);
    guest.write(args[1] as u32, &[&seconds.to_le_bytes()[..], &rest.to_le_bytes()].concat())?;
    Some(0)
}
