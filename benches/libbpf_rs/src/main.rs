//! The measurements of load.c, event.c and plain_host.c, with libbpf-rs instead of plain libbpf.
//!
//! `load OBJECT ROUNDS`   milliseconds from a file to loaded and attached programs: the first, and the median of later ones
//! `event OBJECT ROUNDS`  median nanoseconds from ring buffer to callback of a raw event
//! `host OBJECT`          runs the object until it is killed; prints "ready" before it waits for events

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant};

use libbpf_rs::{
    Link, Map, MapCore, MapType, Object, ObjectBuilder, PerfBuffer, PerfBufferBuilder, ProgramInput,
    ProgramType, RingBuffer, RingBufferBuilder,
};

/// The same number as in signal.h.
const EVENTS_PER_RUN: u32 = 1000;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["load", object, rounds] => load(object, rounds.parse()?),
        ["event", object, rounds] => event(object, rounds.parse()?),
        ["host", object] => host(object),
        _ => Err("usage: libbpf_rs_host load OBJECT ROUNDS | event OBJECT ROUNDS | host OBJECT".into()),
    }
}

/// The event callback.
enum Buffer {
    Ring(RingBuffer<'static>),
    Perf(PerfBuffer<'static>),
}

/// Opens and loads the object, and opens the buffer of the map "events" if there is one.
fn open_and_load(path: &str) -> Result<(Object, Option<Buffer>)> {
    let object = ObjectBuilder::default().open_file(path)?.load()?;
    let buffer = events(&object).map(|map| open_buffer(&map)).transpose()?;
    Ok((object, buffer))
}

fn attach(object: &Object) -> Result<Vec<Link>> {
    let programs = object.progs_mut().filter(|program| program.prog_type() != ProgramType::Syscall);
    programs.map(|program| Ok(program.attach()?)).collect()
}

fn events(object: &Object) -> Option<Map<'_>> {
    object.maps().find(|map| map.name() == "events")
}

fn open_buffer(map: &Map) -> Result<Buffer> {
    if map.map_type() == MapType::RingBuf {
        let mut builder = RingBufferBuilder::new();
        builder.add(map, |_| 0)?;
        return Ok(Buffer::Ring(builder.build()?));
    }
    Ok(Buffer::Perf(PerfBufferBuilder::new(map).sample_cb(|_, _: &[u8]| ()).build()?))
}

fn load(path: &str, rounds: usize) -> Result<()> {
    for rounds in [1, rounds] {
        let (mut loaded, mut attached) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let begin = Instant::now();
            let (object, _buffer) = open_and_load(path)?;
            loaded.push(begin.elapsed());
            let _links = attach(&object)?;
            attached.push(begin.elapsed());
        }
        print!("{} {} ", median(loaded) * 1e3, median(attached) * 1e3);
    }
    println!();
    Ok(())
}

/// Events are produced before the clock starts.
fn event(path: &str, rounds: usize) -> Result<()> {
    let object = ObjectBuilder::default().open_file(path)?.load()?;
    let producer = object.progs_mut().find(|program| program.name() == "produce");
    let producer = producer.ok_or("no program \"produce\"")?;
    let (seen, bytes) = (Cell::new(0), Cell::new(0));
    let mut builder = RingBufferBuilder::new();
    let events = events(&object).ok_or("no map \"events\"")?;
    builder.add(&events, |record| {
        seen.set(seen.get() + 1);
        bytes.set(bytes.get() + record.len());
        0
    })?;
    let ring = builder.build()?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        if producer.test_run(ProgramInput::default())?.return_value != 0 {
            return Err("the ring buffer is full".into());
        }
        seen.set(0);
        let begin = Instant::now();
        ring.poll(Duration::from_secs(1))?;
        times.push(begin.elapsed());
        if seen.get() != EVENTS_PER_RUN || bytes.get() == 0 {
            return Err("not all events arrived".into());
        }
    }
    println!("{}", median(times) * 1e9 / f64::from(EVENTS_PER_RUN));
    Ok(())
}

/// The time in seconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn host(path: &str) -> Result<()> {
    let (object, buffer) = open_and_load(path)?;
    let _links = attach(&object)?;
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        match &buffer {
            Some(Buffer::Ring(ring)) => ring.poll(Duration::MAX)?,
            Some(Buffer::Perf(perf)) => perf.poll(Duration::MAX)?,
            None => std::thread::park(),
        }
    }
}
