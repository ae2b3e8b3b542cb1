//! Functions of the C library that guests can import from `env`, for modules that are linked without one.
//!
//! WAMR has such functions too, but they print to the host's stdout and trust the guest's numbers: `isalpha` and `strtol`
//! read outside of its memory, and so does `strdup` with a `malloc` of the guest's own.
//!
//! A pointer to memory that the guest does not have is a trap here, as in code of the guest. Functions that print return
//! EOF instead.

pub mod heap;
mod printf;

use std::cmp::Ordering;

use crate::os;
use crate::wasm::call::{Args, Call, Table, table};
use crate::wasm::state::{End, State, Stream};
use crate::wasm::sys::guest::Guest;
use crate::wasm::wasi::clock;

/// Maximum length of a string that `puts` prints.
const MAX_PUTS: usize = 1 << 20;

/// EOF, which C functions return on failure.
const EOF: u64 = -1_i32 as u32 as u64;

/// No limit on the length.
const ANY: usize = usize::MAX;

pub const IMPORTS: Table = table![
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
    ("free(i)", |state, _, args| {
        state.heap_free(args[0] as u32);
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

/// Reads a NUL-terminated string.
fn text(guest: Guest<'_>, at: u64) -> Option<Vec<u8>> {
    guest.read_string(at as u32, ANY)
}

/// Reads a string of at most `limit` bytes. A string with that many bytes needs no NUL.
fn text_within(guest: Guest<'_>, at: u64, limit: usize) -> Option<Vec<u8>> {
    let (at, len) = (at as u32, u32::try_from(limit).unwrap_or(u32::MAX));
    guest.read_string(at, limit).or_else(|| guest.read(at, len))
}

/// Returns the address at an offset, or null.
fn address(at: u64, offset: Option<usize>) -> Option<u64> {
    Some(offset.map_or(0, |offset| (at as u32).wrapping_add(offset as u32).into()))
}

/// `printf(format, args)`: variadic arguments are passed as a pointer to them, like a `va_list`.
fn printf(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let Some(text) = printf::format(guest, args[0] as u32, args[1] as u32) else { return Some(EOF) };
    state.print(Stream::Stdout, &text)?;
    Some(text.len() as u64)
}

/// Formats a string and writes it to `at`, cut off so that it and its NUL have at most `size` bytes. Returns the length that
/// it would have had.
fn print_to(guest: Guest<'_>, at: u64, size: u32, rest: [u64; 2]) -> Option<u64> {
    let mut text = printf::format(guest, rest[0] as u32, rest[1] as u32)?;
    let len = text.len() as u64;
    if let Some(max_len) = size.checked_sub(1) {
        text.truncate(max_len as usize);
        text.push(0);
        guest.write(at as u32, &text)?;
    }
    Some(len)
}

fn puts(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let Some(mut text) = text_within(guest, args[0], MAX_PUTS) else { return Some(EOF) };
    text.push(b'\n');
    state.print(Stream::Stdout, &text)?;
    Some(text.len() as u64)
}

fn putchar(state: &State<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    let byte = args[0] as u8;
    state.print(Stream::Stdout, &[byte])?;
    Some(byte.into())
}

fn exit(state: &State<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    state.end(End::Exit(args[0] as i32))
}

/// Exits with the code that a shell reports for SIGABRT.
fn abort(state: &State<'_>, _guest: Guest<'_>, _args: &Args) -> Option<u64> {
    state.end(End::Exit(134))
}

fn malloc(state: &State<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    Some(state.heap_allocate(args[0] as u32).unwrap_or(0).into())
}

fn calloc(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let len = (args[0] as u32).checked_mul(args[1] as u32);
    let Some((len, at)) = len.and_then(|len| Some((len, state.heap_allocate(len)?))) else { return Some(0) };
    guest.write(at, &vec![0; len as usize])?;
    Some(at.into())
}

fn realloc(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (old, len) = (args[0] as u32, args[1] as u32);
    let old_len = state.heap_len(old);
    if old_len.is_none() && old != 0 {
        return Some(0);
    }
    let Some(new) = state.heap_allocate(len) else { return Some(0) };
    if let Some(old_len) = old_len {
        guest.write(new, &guest.read(old, old_len.min(len))?)?;
        state.heap_free(old);
    }
    Some(new.into())
}

fn strdup(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut text = text(guest, args[0])?;
    text.push(0);
    let Some(at) = state.heap_allocate(text.len() as u32) else { return Some(0) };
    guest.write(at, &text)?;
    Some(at.into())
}

fn memchr(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let bytes = guest.read(args[0] as u32, args[2] as u32)?;
    address(args[0], bytes.iter().position(|&byte| byte == args[1] as u8))
}

fn memcmp(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let [a, b] = [args[0], args[1]].map(|at| guest.read(at as u32, args[2] as u32));
    ordering(a?.cmp(&b?))
}

fn memmove(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    guest.write(args[0] as u32, &guest.read(args[1] as u32, args[2] as u32)?)?;
    address(args[0], Some(0))
}

fn memset(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (at, len) = (args[0] as u32, args[2] as u32);
    if !guest.has(at, len) {
        return None;
    }
    guest.write(at, &vec![args[1] as u8; len as usize])?;
    Some(at.into())
}

fn strchr(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut text = text(guest, args[0])?;
    text.push(0);
    address(args[0], text.iter().position(|&byte| byte == args[1] as u8))
}

fn strcpy(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut text = text(guest, args[1])?;
    text.push(0);
    guest.write(args[0] as u32, &text)?;
    address(args[0], Some(0))
}

fn strncpy(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (at, len) = (args[0] as u32, args[2] as u32);
    if !guest.has(at, len) {
        return None;
    }
    let mut text = text_within(guest, args[1], len as usize)?;
    text.resize(len as usize, 0);
    guest.write(at, &text)?;
    Some(at.into())
}

fn strstr(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    address(args[0], os::find(&text(guest, args[0])?, &text(guest, args[1])?))
}

/// Returns how many bytes at the start of the first string are all in the second one, or all not in it.
fn span(guest: Guest<'_>, args: &Args, is_in: bool) -> Option<u64> {
    let mut set = [false; 256];
    text(guest, args[1])?.iter().for_each(|&byte| set[usize::from(byte)] = true);
    let whole = text(guest, args[0])?;
    Some(whole.iter().take_while(|&&byte| set[usize::from(byte)] == is_in).count() as u64)
}

/// Compares at most `limit` bytes of two strings.
fn compare(guest: Guest<'_>, args: &Args, limit: usize, ignores_case: bool) -> Option<u64> {
    let mut texts = [text_within(guest, args[0], limit)?, text_within(guest, args[1], limit)?];
    if ignores_case {
        texts.iter_mut().for_each(|text| text.make_ascii_lowercase());
    }
    ordering(texts[0].cmp(&texts[1]))
}

fn ordering(found: Ordering) -> Option<u64> {
    Some(found as i32 as u32 as u64)
}

/// Returns 1 if the argument is a character of a class, or 0.
fn class(args: &Args, is_in: fn(u8) -> bool) -> Option<u64> {
    Some(u8::try_from(args[0] as u32).is_ok_and(is_in).into())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}

/// `strtol(text, end, base)`: returns the number, and stores the address of its end unless `end` is null.
fn to_number(guest: Guest<'_>, args: &Args) -> Option<i64> {
    let (number, len) = parse(&text(guest, args[0])?, args[2] as u32);
    if args[1] as u32 != 0 {
        let end = (args[0] as u32).wrapping_add(len as u32);
        guest.write(args[1] as u32, &end.to_le_bytes())?;
    }
    Some(number)
}

/// Returns the number at the start of a string and the offset of its end, which is 0 if there is no number. Base 0 accepts
/// the prefixes `0x` and `0`, as in C.
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

/// `clock_gettime(clock, out)`: writes `struct { i64 sec; i32 nsec; }`.
fn clock_gettime(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    let Ok(now) = clock(args[0]) else { return Some(EOF) };
    let (seconds, rest) = (now / SECOND, (now % SECOND) as u32);
    guest.write(args[1] as u32, &[&seconds.to_le_bytes()[..], &rest.to_le_bytes()].concat())?;
    Some(0)
}
