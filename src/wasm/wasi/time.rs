//! Clocks and sleeping.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::error::{Failure, Result, number, read, to_guest, u32_at, u64_at, write, write_u32};
use crate::os;
use crate::wasm::call::Args;
use crate::wasm::state::{End, State};
use crate::wasm::sys::guest::Guest;

/// Returns the time of a clock: real time, monotonic time, or the processor time of the process or the thread.
pub fn clock(id: u64) -> Result<u64> {
    let id = match id as u32 {
        0 => libc::CLOCK_REALTIME,
        1 => libc::CLOCK_MONOTONIC,
        2 => libc::CLOCK_PROCESS_CPUTIME_ID,
        3 => libc::CLOCK_THREAD_CPUTIME_ID,
        _ => return Err(Failure::Number(number::INVAL)),
    };
    Ok(os::clock(id)?)
}

/// `clock_res_get(clock, out)`.
pub fn clock_res_get(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    to_guest(clock(args[0]).and_then(|_| write(guest, args[1], &1_u64.to_le_bytes())))
}

/// `clock_time_get(clock, precision, out)`.
pub fn clock_time_get(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    to_guest(clock(args[0]).and_then(|now| write(guest, args[2], &now.to_le_bytes())))
}

/// Waits until one of the descriptors is readable or the time is over. Fails if the guest must end. The time counts
/// towards the time limit of the call that the guest is in.
pub fn wait(state: &State<'_>, fds: &[RawFd], time: Option<Duration>) -> Result {
    let all = [&[state.vm.stop_fd], fds].concat();
    let deadline = time.map(|time| Instant::now() + time);
    loop {
        let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let max_sleep = state.watch.max_sleep();
        let sleep = max_sleep.map_or(remaining, |max| Some(remaining.map_or(max, |left| left.min(max))));
        match os::wait_readable(&all, sleep)? {
            Some(0) => {
                state.end::<()>(End::Stopped);
                return Err(Failure::End);
            }
            None if state.watch.is_over() => return Err(Failure::End),
            None if sleep != remaining => {}
            _ => return Ok(()),
        }
    }
}

/// `poll_oneoff(in, out, count, out_count)`: sleeps until the first clock subscription is due. Files are ready at once.
pub fn poll_oneoff(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    to_guest(poll(state, guest, args))
}

fn poll(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Result {
    const SUBSCRIPTION: usize = 48;
    const MAX_SUBSCRIPTIONS: u32 = 1024;
    const CLOCK: u8 = 0;
    let count = args[2] as u32;
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Failure::Number(number::INVAL));
    }
    let list = read(guest, args[0] as u32, count * SUBSCRIPTION as u32)?;
    let (mut ready, mut shortest) = (Vec::new(), u64::MAX);
    let mut times = Vec::new();
    for subscription in list.chunks_exact(SUBSCRIPTION) {
        let time = if subscription[8] == CLOCK { remaining_time(subscription)? } else { 0 };
        shortest = shortest.min(time);
        times.push(time);
    }
    // A time of 0 needs no sleep, but `stop` has to be checked.
    wait(state, &[], Some(Duration::from_nanos(shortest)))?;
    for (subscription, time) in list.chunks_exact(SUBSCRIPTION).zip(times) {
        if time == shortest {
            push_event(&mut ready, subscription);
        }
    }
    write(guest, args[1], &ready)?;
    write_u32(guest, args[3], ready.len() / EVENT)
}

/// Returns the nanoseconds until the time of a clock subscription.
fn remaining_time(subscription: &[u8]) -> Result<u64> {
    let is_absolute = subscription[40] & 1 != 0;
    let time = u64_at(subscription, 24);
    Ok(if is_absolute { time.saturating_sub(clock(u32_at(subscription, 16).into())?) } else { time })
}

/// Size of `struct { u64 userdata; u16 error; u8 type; u64 nbytes; u16 flags; }`.
const EVENT: usize = 32;

fn push_event(list: &mut Vec<u8>, subscription: &[u8]) {
    let mut event = [0; EVENT];
    event[..8].copy_from_slice(&subscription[..8]);
    event[10] = subscription[8];
    list.extend_from_slice(&event);
}
